"""A pod's volumes on the disk, written as a kubelet writes them, and kept equal to what the cluster holds.

Files from the cluster appear by one rename: a folder of the new version, then the link `..data` swapped to it. A
program that watches or reads its files meets here what it meets on a node.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.servers.node.client import ApiError, Client, Object
from tests.servers.node.environment import Cluster, NotYet
from tests.servers.node.payload import KINDS, Payload, Token, owned, payload, tokens_of

RENEW_AT = 0.8
"""The part of its life after which a token is replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose a volume's files are; None for both outside of real root, where there is one user."""

    user: int | None
    group: int | None


class Volumes:
    """The volumes of one pod, below `folder`. `host`: what a hostPath's "/" is on its node."""

    def __init__(self, pod: Object, folder: Path, *, host: Path, owner: Owner, client: Client) -> None:
        self._pod, self._folder, self._host, self._owner, self._client = pod, folder, host, owner, client
        self._tokens: dict[Token, tuple[str, float]] = {}
        self._written: dict[str, Payload] = {}

    def path(self, name: str) -> Path:
        volume = next(each for each in self._all() if each["name"] == name)
        if "hostPath" in volume:
            return self._host / str(volume["hostPath"]["path"]).lstrip("/")
        return self._folder / name

    async def write(self, pod: Object, cluster: Cluster) -> None:
        """Make and fill all that are not yet as the cluster wants them. Raises NotYet, after the others are done."""
        self._pod = pod
        missing = None
        for volume in self._all():
            try:
                await self._write(volume, cluster)
            except NotYet as error:
                missing = NotYet(f'MountVolume.SetUp failed for volume "{volume["name"]}": {error}')
        if missing is not None:
            raise missing

    def _all(self) -> list[Object]:
        volumes: list[Object] = self._pod["spec"].get("volumes", [])
        return volumes

    async def _write(self, volume: Object, cluster: Cluster) -> None:
        if "hostPath" in volume:
            self._host_path(volume)
        elif "emptyDir" in volume:
            self._empty(self._folder / volume["name"])
        else:
            for token in tokens_of(volume):
                await self._renew(token)
            tokens = {token: text for token, (text, _) in self._tokens.items()}
            files = owned(payload(self._pod, volume, cluster, tokens), group=self._owner.group is not None)
            if files != self._written.get(volume["name"]):
                self._swap(self._folder / volume["name"], files)
                self._written[volume["name"]] = files

    def _host_path(self, volume: Object) -> None:
        path = self.path(volume["name"])
        kind = volume["hostPath"].get("type", "")
        if kind in {"DirectoryOrCreate", ""}:
            path.mkdir(parents=True, exist_ok=True)
        elif not (path.is_dir() if kind == "Directory" else path.is_file()):
            raise NotYet(f"hostPath type check failed: {volume['hostPath']['path']} is not a {kind.lower()}")

    def _empty(self, path: Path) -> None:
        if not path.exists():
            path.mkdir(parents=True)
            path.chmod(0o777)
            self._give(path)

    def _swap(self, folder: Path, files: Payload) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        version = folder / f"..{time.strftime('%Y_%m_%d_%H_%M_%S')}.{time.monotonic_ns()}"
        for name, file in files.items():
            path = version / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.data)
            path.chmod(file.mode)
            self._give(path)
        version.mkdir(exist_ok=True)
        previous = (folder / "..data").readlink() if (folder / "..data").is_symlink() else None
        (folder / "..data_tmp").symlink_to(version.name)
        (folder / "..data_tmp").replace(folder / "..data")
        self._link(folder, {name.split("/")[0] for name in files})
        if previous is not None:
            shutil.rmtree(folder / previous)

    def _link(self, folder: Path, tops: set[str]) -> None:
        for top in tops:
            if not (folder / top).is_symlink():
                (folder / top).symlink_to(f"..data/{top}")
        for path in folder.iterdir():
            if not path.name.startswith("..") and path.name not in tops:
                path.unlink()

    def _give(self, path: Path) -> None:
        if self._owner.user is not None or self._owner.group is not None:
            os.chown(path, _or_same(self._owner.user), _or_same(self._owner.group))

    async def _renew(self, token: Token) -> None:
        if token in self._tokens and time.monotonic() < self._tokens[token][1]:
            return
        audience, seconds = token
        metadata, spec = self._pod["metadata"], self._pod["spec"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        wish = {"audiences": [audience] if audience else [], "expirationSeconds": seconds, "boundObjectRef": bound}
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{spec['serviceAccountName']}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": wish}
        try:
            made = await self._client.post(path, request)
        except (ApiError, aiohttp.ClientError, TimeoutError) as error:
            raise NotYet(f"failed to fetch token: {error}") from error
        self._tokens[token] = made["status"]["token"], time.monotonic() + seconds * RENEW_AT


def unsupported(volume: Object) -> str | None:
    """What a volume asks for that is not here, so that a test fails by name and not by a surprise."""
    known = {"name", "emptyDir", "hostPath", *KINDS}
    other = sorted(volume.keys() - known)
    return f"volume {json.dumps(other)}" if other else None


def _or_same(number: int | None) -> int:
    return -1 if number is None else number
