"""What all pods of the stand-in share: the cluster as it was heard, the client, the folders, a test's wishes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import aiohttp

from tests.servers.node.client import Client
from tests.servers.node.environment import Cluster
from tests.servers.node.network import Network
from tests.servers.node.watching import Kind

Behaviour = Literal["pending", "unpullable", "hang", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A test's wish for the pods of `namespace` whose names begin with `prefix`: "pending" ones get no node, images of
    "unpullable" ones are refused by the registry, "hang" stops their programs as a debugger would, "fail" kills each
    program as soon as it runs.
    """

    behaviour: Behaviour
    namespace: str
    prefix: str

    def __post_init__(self) -> None:
        if self.behaviour not in get_args(Behaviour):
            raise ValueError(f"no behaviour {self.behaviour!r}")


@dataclass(slots=True)
class Rules:
    active: list[Rule] = field(default_factory=list)

    def of(self, namespace: str, pod: str) -> set[Behaviour]:
        return {each.behaviour for each in self.active if each.namespace == namespace and pod.startswith(each.prefix)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    pods: Kind
    nodes: Kind
    services: Kind
    slices: Kind
    config_maps: Kind
    secrets: Kind

    @classmethod
    def create(cls, changed: Callable[[str, tuple[str, str]], None]) -> Heard:
        def kind(name: str, path: str) -> Kind:
            return Kind(path, lambda key: changed(name, key))

        return cls(
            pods=kind("pods", "/api/v1/pods"),
            nodes=kind("nodes", "/api/v1/nodes"),
            services=kind("services", "/api/v1/services"),
            slices=kind("slices", "/apis/discovery.k8s.io/v1/endpointslices"),
            config_maps=kind("config_maps", "/api/v1/configmaps"),
            secrets=kind("secrets", "/api/v1/secrets"),
        )

    def kinds(self) -> list[Kind]:
        return [self.pods, self.nodes, self.services, self.slices, self.config_maps, self.secrets]

    async def follow(self, client: Client) -> None:
        async with asyncio.TaskGroup() as tasks:
            for kind in self.kinds():
                tasks.create_task(kind.follow(client))

    @property
    def cluster(self) -> Cluster:
        return Cluster(config_map=self.config_maps.get, secret=self.secrets.get)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """`root`: the stand-in's folder: `hosts/NODE` is a node's file system for hostPath, `logs` what containers say;
    `pods` is on a tmpfs that only the stand-in sees.
    """

    root: Path
    client: Client
    heard: Heard
    network: Network
    rules: Rules
    missing_images: frozenset[str]
    probing: aiohttp.ClientSession

    def log(self, namespace: str, pod: str, container: str) -> Path:
        return self.root / "logs" / f"{namespace}_{pod}_{container}.log"

    def host(self, node: str) -> Path:
        return self.root / "hosts" / node


def can_choose_users() -> bool:
    """Real root can; in a user namespace of an ordinary user there is one user only."""
    ranges = Path("/proc/self/uid_map").read_text().split()
    return os.geteuid() == 0 and int(ranges[2]) > 1
