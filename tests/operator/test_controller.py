"""The leader's loop where timing or a broken cluster is what matters, which a real API server cannot be asked for."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from putgate_operator.deletion import FINALIZER
from putgate_operator.errors import Forbidden
from putgate_operator.kinds import NAMESPACE, UPLOAD_BUCKET, Kind
from putgate_operator.seen import Place
from tests.operator.core.made import MINIMAL, OPERATOR, upload_bucket
from tests.operator.leader import leader

Raw = dict[str, Any]


class Cluster:
    """An API server in memory that runs no controllers and shows no watches. `closed`: namespaces that may not be
    read. `on_status`: called before a status is written.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Raw] = {}
        self.closed: set[str] = set()
        self.on_status: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)
        for name in ("apps", "other"):
            self.put(NAMESPACE, {"metadata": {"name": name}})

    def put(self, kind: Kind, body: Raw) -> Raw:
        metadata = body["metadata"]
        known = self.objects.get(self._key(kind, body), {}).get("metadata", {})
        number = next(self._numbers)
        uid = metadata.get("uid") or known.get("uid") or f"uid-{number}"
        made = {**body, "metadata": {**metadata, "uid": uid, "resourceVersion": str(number)}}
        self.objects[self._key(kind, body)] = copy.deepcopy(made)
        return made

    def bucket(self, name: str = "media", namespace: str = "apps") -> Raw:
        return self.objects[UPLOAD_BUCKET.kind, namespace, name]

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Raw | None:
        return copy.deepcopy(self.objects.get((kind.kind, namespace or "", name)))

    async def list_all(self, kind: Kind, namespace: str | None, *, label: str | None = None) -> tuple[list[Raw], str]:
        if namespace in self.closed:
            raise Forbidden(f"list {kind.kind}", f"cannot list {kind.plural}")
        found = [each for key, each in self.objects.items() if key[0] == kind.kind and namespace in (None, key[1])]
        return [{"kind": kind.kind, **copy.deepcopy(each)} for each in found], str(next(self._numbers))

    async def apply(self, kind: Kind, body: Raw, *, force: bool) -> Raw:
        return self.put(kind, body)

    async def create(self, kind: Kind, body: Raw) -> Raw:
        return self.put(kind, body)

    async def merge(self, kind: Kind, namespace: str | None, name: str, patch: Raw) -> Raw:
        known = self.objects[kind.kind, namespace or "", name]
        return self.put(kind, {**known, "metadata": {**known["metadata"], **patch["metadata"]}})

    async def replace_status(self, kind: Kind, place: Place, uid: str, status: Raw) -> Raw:
        self.on_status()
        return self.put(kind, {**self.objects[kind.kind, *place], "status": status})

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str | None = None) -> None:
        self.objects.pop((kind.kind, namespace or "", name), None)

    def _key(self, kind: Kind, body: Raw) -> tuple[str, str, str]:
        return kind.kind, body["metadata"].get("namespace", ""), body["metadata"]["name"]


@contextlib.asynccontextmanager
async def leading(cluster: Cluster, *namespaces: str) -> AsyncIterator[None]:
    """A leader that sweeps once, and again when it must."""
    server: Any = cluster
    async with aiohttp.ClientSession() as http:
        controller = leader(server, http, OPERATOR, namespaces=namespaces, resync=10_000)
        stop = asyncio.Event()
        task = asyncio.create_task(controller.lead(stop))
        try:
            yield
        finally:
            stop.set()
            await task


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def condition(bucket: Raw, kind: str) -> tuple[str, str] | None:
    found = bucket.get("status", {}).get("conditions", ())
    return next(((each["status"], each["reason"]) for each in found if each["type"] == kind), None)


async def test_a_wish_that_comes_while_the_status_is_written_is_not_lost() -> None:
    cluster = Cluster()
    raw = upload_bucket()
    raw["metadata"]["annotations"] = {"putgate.io/paused": "true"}
    cluster.put(UPLOAD_BUCKET, raw)

    def go_on() -> None:
        """Its event is an echo of what the answer to the status write shows already, and so is none."""
        cluster.on_status = lambda: None
        known = cluster.bucket()
        cluster.put(UPLOAD_BUCKET, {**known, "metadata": {**known["metadata"], "annotations": {}}})

    cluster.on_status = go_on
    async with leading(cluster, "apps"):
        await until(lambda: ("Deployment", "apps", "media-putgate-api") in cluster.objects)


async def test_a_namespace_that_cannot_be_read_blinds_no_other() -> None:
    cluster = Cluster()
    cluster.closed.add("other")
    cluster.put(UPLOAD_BUCKET, upload_bucket())
    async with leading(cluster, "other", "apps"):
        await until(lambda: condition(cluster.bucket(), "Ready") is not None)


async def test_a_leader_that_can_read_nothing_can_be_stopped() -> None:
    cluster = Cluster()
    cluster.closed.add("apps")
    async with asyncio.timeout(60), leading(cluster, "apps"):
        await asyncio.sleep(0)


def of_a_newer_operator() -> Raw:
    raw = upload_bucket({**MINIMAL, "surprise": 1})
    return {**raw, "metadata": {**raw["metadata"], "finalizers": [FINALIZER]}}


async def test_what_cannot_be_read_is_told() -> None:
    cluster = Cluster()
    cluster.put(UPLOAD_BUCKET, of_a_newer_operator())
    async with leading(cluster, "apps"):
        await until(lambda: condition(cluster.bucket(), "Stalled") == ("True", "SpecInvalid"))
    assert condition(cluster.bucket(), "Ready") == ("False", "SpecInvalid")
    assert cluster.bucket()["metadata"]["finalizers"] == [FINALIZER]
    assert {kind for kind, *_ in cluster.objects} == {"Namespace", "UploadBucket", "Event"}


async def test_what_cannot_be_read_can_be_deleted() -> None:
    cluster = Cluster()
    raw = of_a_newer_operator()
    raw["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    cluster.put(UPLOAD_BUCKET, raw)
    async with leading(cluster, "apps"):
        await until(lambda: cluster.bucket()["metadata"]["finalizers"] == [])
