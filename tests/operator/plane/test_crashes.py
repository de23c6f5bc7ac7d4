"""A crash before or after any write, with every watch event lost: the next process ends in the same state."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kubernetes.aio import config
from kubernetes.aio.client.configuration import Configuration

from putgate_operator.api_server import ApiServer
from putgate_operator.controller import Controller
from putgate_operator.kinds import UPLOAD_BUCKET
from putgate_operator.observed import OperatorSettings, dig
from tests.operator.leader import leader
from tests.operator.plane.operators import Home, upload_bucket
from tests.operator.plane.test_objects import FULL
from tests.servers.kube.light_nodes import LightNodes
from tests.servers.kube.waiting import until

IMAGE = "putgate:test"
UPLOAD_KEYS = "putgate.io/upload-keys"

Raw = dict[str, Any]


class Crash(BaseException):
    """As kill -9: nothing catches it."""


class CrashingServer(ApiServer):
    """Ends the process at one write, before it is sent or after it was answered."""

    def __init__(self, configuration: Configuration, *, at: int | None, after: bool) -> None:
        super().__init__(configuration)
        self.writes = 0
        self._at, self._after = at, after

    async def _call(self, method: str, *arguments: Any, **options: Any) -> Raw | None:
        if method == "GET":
            return await super()._call(method, *arguments, **options)
        self.writes += 1
        dies = self.writes == self._at
        if dies and not self._after:
            raise Crash
        written = await super()._call(method, *arguments, **options)
        if dies:
            raise Crash
        return written


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Something to do for an operator. `first`: the spec before. `every`: from one crash to the next, in writes.

    `begin`: somebody asks for it. `help`: does what a cluster would that does not only pretend. `done`: whether it is,
    by the UploadBucket. `settled`: whether nothing is left to do, where the UploadBucket does not show it. `leaves`:
    whether anything.
    """

    first: dict[str, Any] | None
    every: int = 1
    begin: Callable[[Stage, str], None]
    help: Callable[[Home, str], None] = lambda home, name: None
    done: Callable[[Raw | None], bool]
    settled: Callable[[Home, str], bool] = lambda home, name: True
    leaves: bool = True


def is_ready(found: Raw | None) -> bool:
    conditions = dig(found, "status", "conditions", default=())
    wanted = {"Ready": "True", "Reconciling": "False", "Stalled": "False"}
    seen = dig(found, "status", "observedGeneration") == dig(found, "metadata", "generation")
    return seen and wanted.items() <= {each["type"]: each["status"] for each in conditions}.items()


def rotate(stage: Stage, name: str) -> None:
    stage.home.kubectl("annotate", "uploadbucket", name, "putgate.io/rotate-keys=now")


def end_retiring(home: Home, name: str) -> None:
    """A key retires for as long as uploads live, which is longer than a test."""
    annotations = home.get("deployment", f"{name}-putgate-api")["metadata"]["annotations"]
    state = json.loads(annotations[UPLOAD_KEYS])
    if state["phase"] == "Retiring" and state["until"] > "2026-01-02":
        now = {UPLOAD_KEYS: json.dumps({**state, "until": "2026-01-01T00:00:00Z"})}
        home.patch(f"deployment/{name}-putgate-api", {"metadata": {"annotations": now}})


def is_rotated(found: Raw | None) -> bool:
    told = dig(found, "metadata", "annotations", "putgate.io/rotate-keys") == "now"
    keys = dig(found, "status", "uploadKeys", default={})
    rotated = keys.get("phase") == "Stable" and keys.get("lastRotation") is not None
    return told and rotated and is_ready(found)


def is_cleared(home: Home, name: str) -> bool:
    """The old key's Secret is deleted, which is the end of a rotation."""
    annotations = home.get("deployment", f"{name}-putgate-api")["metadata"]["annotations"]
    return "retired" not in json.loads(annotations[UPLOAD_KEYS])


def delete(stage: Stage, name: str) -> None:
    # The removal's pod is not to be shown as running again when it has ended.
    stage.nodes.stuck.add((stage.home.namespace, name, IMAGE))
    stage.home.kubectl("delete", "uploadbucket", name, "--wait=false")


def end_removal(home: Home, name: str) -> None:
    """The removal's pod says that the bucket is gone."""
    for pod in home.plane.items("-n", home.namespace, "pods", "-l", "app.kubernetes.io/name=putgate-remove"):
        if pod["metadata"]["name"].startswith(f"{name}-") and pod["status"].get("phase") != "Succeeded":
            home.kubectl(
                "patch",
                f"pod/{pod['metadata']['name']}",
                "--subresource=status",
                "--type=merge",
                "-p",
                json.dumps({"status": removed(pod)}),
                # It may be gone just now.
                check=False,
            )


def removed(pod: Raw) -> Raw:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    said = json.dumps({"result": "Removed", "message": "The bucket is removed."})
    ended = {"exitCode": 0, "reason": "Completed", "message": said, "startedAt": now, "finishedAt": now}
    container = {"name": pod["spec"]["containers"][0]["name"], "ready": False, "restartCount": 0}
    state = {**container, "image": IMAGE, "imageID": "", "state": {"terminated": ended}}
    return {"phase": "Succeeded", "containerStatuses": [state]}


ONE: dict[str, Any] = {"api": {"replicas": 1}}
"""One pod is as good as two here, and sooner ready."""

OTHER = {**FULL, "api": {**FULL["api"], **ONE["api"]}}
STORAGE = {**upload_bucket("", "")["spec"]["storage"], "management": "Create"}

WORKS = {
    "made": Work(first=None, begin=lambda stage, name: stage.home.bucket(name, **ONE), done=is_ready),
    "changed": Work(first=ONE, begin=lambda stage, name: stage.home.bucket(name, **OTHER), done=is_ready),
    "rotated": Work(first=ONE, every=2, begin=rotate, help=end_retiring, done=is_rotated, settled=is_cleared),
    "removed": Work(
        every=2,
        first={**ONE, "storage": STORAGE, "deletionPolicy": "Delete"},
        begin=delete,
        help=end_removal,
        done=lambda found: found is None,
        leaves=False,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """`reader`: somebody else, who may read what the operator only watches."""

    home: Home
    nodes: LightNodes
    configuration: Configuration
    reader: ApiServer
    work: Work

    async def life(self, *names: str, begun: bool = True, at: int | None = None, after: bool = False) -> int:
        """One process, without watches: it learns of the cluster only by its sweeps. Returns its writes once the work
        is done, or the first spec is; raises `Crash` at write number `at`.
        """
        server = CrashingServer(self.configuration, at=at, after=after)
        stop = asyncio.Event()
        async with contextlib.aclosing(server), aiohttp.ClientSession() as http:
            leading = asyncio.create_task(self._controller(server, http).lead(stop))
            try:
                await self._until_done(leading, names, begun=begun)
            finally:
                stop.set()
                (ended,) = await asyncio.gather(leading, return_exceptions=True)
            if isinstance(ended, BaseExceptionGroup) and ended.subgroup(Crash) is not None:
                raise Crash
            if ended is not None:
                raise ended
        return server.writes

    async def _until_done(self, leading: asyncio.Task[None], names: tuple[str, ...], *, begun: bool) -> None:
        deadline = time.monotonic() + 120
        while not leading.done() and not await self._all_done(names, begun=begun):
            assert time.monotonic() < deadline, await self._found(names[0])
            await asyncio.sleep(0.05)

    def _controller(self, server: ApiServer, http: aiohttp.ClientSession) -> Controller:
        operator = OperatorSettings(
            image=IMAGE, version="0.1.0", operator_namespace=self.home.namespace, operator_pod_labels={}
        )
        return leader(server, http, operator, namespaces=(self.home.namespace,), resync=0.2)

    async def _found(self, name: str) -> Raw | None:
        return await self.reader.get(UPLOAD_BUCKET, self.home.namespace, name)

    async def _all_done(self, names: tuple[str, ...], *, begun: bool) -> bool:
        for name in names:
            if begun:
                await asyncio.to_thread(self.work.help, self.home, name)
            if not (self.work.done if begun else is_ready)(await self._found(name)):
                return False
            if begun and not await asyncio.to_thread(self.work.settled, self.home, name):
                return False
        return True

    async def prepared(self, *names: str) -> None:
        if self.work.first is None:
            return
        for name in names:
            self.home.bucket(name, **self.work.first)
        await self.life(*names, begun=False)


def outcome(home: Home, name: str) -> list[str]:
    """Children, keys and jobs, but for what differs from one UploadBucket to the next. Settings of an older template go
    when its ReplicaSet has gone, so they count as nothing.
    """
    children = {key: each for key, each in home.children().items() if f"/{name}-" in key}
    template = json.dumps(children.get(f"Deployment/{name}-putgate-api"))
    old = {key for key in children if "-settings-" in key and key.partition("/")[2] not in template}
    found = [json.dumps(item, sort_keys=True) for item in children.items() if item[0] not in old]
    rest = home.kubectl("get", "secret,job", "-l", f"putgate.io/uploadbucket={name}", "-oname").split()
    return sorted(anonymous(each, name) for each in (*found, *rest))


def is_outcome(home: Home, name: str, wanted: list[str]) -> bool:
    found = outcome(home, name)
    assert found == wanted
    return True


def anonymous(text: str, name: str) -> str:
    """Without its name, the uid, ids and hashes that come of it, and times."""
    varying = (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", r"\b[0-9a-f]{10,}\b", r"\d{4}-\d\d-\d\dT[0-9:.]+Z")
    return re.sub("|".join(varying), "*", text.replace(name, "*"))


async def configured(kubeconfig: Path) -> Configuration:
    configuration = Configuration()
    await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    return configuration


@pytest.fixture
async def stage(home: Home, nodes: LightNodes, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """Of the work that the test names."""
    work: Work = request.getfixturevalue("work")
    async with contextlib.aclosing(ApiServer(await configured(home.plane.kubeconfig))) as reader:
        configuration = await configured(home.kubeconfig)
        yield Stage(home=home, nodes=nodes, configuration=configuration, reader=reader, work=work)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
async def test_a_crash_at_every_write_ends_in_the_same_state(stage: Stage, work: Work, after: bool) -> None:
    await stage.prepared("whole")
    work.begin(stage, "whole")
    writes = await stage.life("whole")
    # The garbage collector may still be at work.
    until("what is there is", lambda: bool(outcome(stage.home, "whole")) == work.leaves)
    wanted = outcome(stage.home, "whole")
    names = {at: f"crash{at}" for at in range(1, writes + 1, work.every)}
    await stage.prepared(*names.values())
    crashes = 0
    for at, name in names.items():
        work.begin(stage, name)
        try:
            await stage.life(name, at=at, after=after)
        except Crash:
            crashes += 1
        await stage.life(name)
        until(f"it is as without a crash at write {at}", partial(is_outcome, stage.home, name, wanted))
    # How often the status is written while pods come depends on how soon they do.
    assert crashes > len(names) / 2
