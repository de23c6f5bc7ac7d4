"""How tests of the stand-in look at pods: from the API server's side, and through the puppet's eyes."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from tests.servers.kube.waiting import until
from tests.servers.node.cluster import Cluster
from tests.servers.node.manifests import PORT


def condition(pod: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions = pod.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {"status": "Unknown"})


class Looker:
    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def pod(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.cluster.control_plane.get("-n", self.namespace, "pod", name)
        return found

    def main(self, name: str) -> dict[str, Any]:
        """The status of its first container; empty where there is none yet."""
        statuses = ((self.pod(name) or {}).get("status", {})).get("containerStatuses", [{}])
        first: dict[str, Any] = statuses[0]
        return first

    def until_ready(self, name: str, *, within: float = 60) -> dict[str, Any]:
        def ready() -> dict[str, Any] | None:
            pod = self.pod(name)
            return pod if pod and condition(pod, "Ready")["status"] == "True" else None

        return until(f"pod {name} is ready", ready, within=within)

    def until_running(self, name: str) -> dict[str, Any]:
        until(f"pod {name} runs", lambda: "running" in self.main(name).get("state", {}))
        pod = self.pod(name)
        assert pod is not None
        return pod

    @contextmanager
    def puppet(self, name: str) -> Iterator[Puppet]:
        pod = self.until_running(name)
        with self.cluster.expose(pod["status"]["podIP"], PORT) as address:
            puppet = Puppet(f"http://{address}")
            until(f"the puppet of {name} answers", puppet.answers)
            yield puppet


class Puppet:
    def __init__(self, url: str) -> None:
        self.url = url

    def answers(self) -> bool:
        try:
            return bool(self("/who"))
        except OSError:
            return False

    def __call__(self, call: str, /, **query: str) -> Any:
        """Its answer; None where it says 404."""
        try:
            with urllib.request.urlopen(f"{self.url}{call}?{urlencode(query)}", timeout=10) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return None
                return json.loads(error.read())

    def text(self, path: str) -> Any:
        found = self("/stat", path=path)
        return found["text"] if found else None
