"""A crash before or after any write, with every watch event lost: the next process ends in the same state."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from kubernetes.aio import config
from kubernetes.aio.client.configuration import Configuration

from putgate_operator.api_server import ApiServer
from putgate_operator.apply import Applier
from putgate_operator.controller import Controller
from putgate_operator.kinds import UPLOAD_BUCKET
from putgate_operator.metrics import Metrics
from putgate_operator.observe import Observer
from putgate_operator.observed import OperatorSettings, dig
from putgate_operator.pod_reports import PodReports
from putgate_operator.queue import WorkQueue
from putgate_operator.seen import Place, Seen
from tests.operator.plane.operators import Home


class Crash(BaseException):
    """As kill -9: nothing catches it."""


class CrashingServer(ApiServer):
    """Ends the process at one write, before it is sent or after it was answered."""

    def __init__(self, configuration: Configuration, *, at: int | None, after: bool) -> None:
        super().__init__(configuration)
        self.writes = 0
        self._at, self._after = at, after

    async def _write(self, *arguments: Any, **query: str) -> dict[str, Any]:
        self.writes += 1
        dies = self.writes == self._at
        if dies and not self._after:
            raise Crash
        written = await super()._write(*arguments, **query)
        if dies:
            raise Crash
        return written


async def life(
    home: Home, configuration: Configuration, name: str, *, at: int | None = None, after: bool = False
) -> int:
    """One process, without watches: it learns of the cluster only by its sweeps. Returns its writes once the
    UploadBucket is ready; raises `Crash` at write number `at`.
    """
    server = CrashingServer(configuration, at=at, after=after)
    seen, queue = Seen(), WorkQueue[Place]()
    operator = OperatorSettings(
        image="putgate:test", version="0.1.0", operator_namespace=home.namespace, operator_pod_labels={}
    )
    async with contextlib.aclosing(server), aiohttp.ClientSession() as http:
        controller = Controller(
            server=server,
            seen=seen,
            queue=queue,
            observer=Observer(server, seen, operator, lambda: datetime.now(UTC), namespaces_watched=False),
            applier=Applier(server, seen, instance="test"),
            reports=PodReports(http, queue.add),
            metrics=Metrics(),
            namespaces=(home.namespace,),
            workers=2,
            resync=0.2,
        )
        stop = asyncio.Event()
        leading = asyncio.create_task(controller.lead(stop))
        deadline = time.monotonic() + 120
        while not leading.done() and not await is_ready(server, home, name):
            assert time.monotonic() < deadline, await server.get(UPLOAD_BUCKET, home.namespace, name)
            await asyncio.sleep(0.05)
        stop.set()
        try:
            await leading
        except BaseExceptionGroup as died:
            if died.subgroup(Crash) is None:
                raise
            raise Crash from None
    return server.writes


async def is_ready(server: ApiServer, home: Home, name: str) -> bool:
    found = await server.get(UPLOAD_BUCKET, home.namespace, name)
    conditions = dig(found, "status", "conditions", default=())
    wanted = {"Ready": "True", "Reconciling": "False", "Stalled": "False"}
    return wanted.items() <= {each["type"]: each["status"] for each in conditions}.items()


async def configured(home: Home) -> Configuration:
    configuration = Configuration()
    await config.load_kube_config(config_file=str(home.kubeconfig), client_configuration=configuration)
    return configuration


def names(home: Home, name: str) -> set[str]:
    """Children without what differs by their UploadBucket: its name, and the hash of its settings."""
    found = {each.replace(name, "*") for each in home.children() if f"/{name}-" in each}
    return {each[: each.index("-settings-") + 10] if "-settings-" in each else each for each in found}


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_at_every_write_ends_in_the_same_state(home: Home, after: bool) -> None:
    configuration = await configured(home)
    home.bucket("whole")
    first = await life(home, configuration, "whole")
    wanted = names(home, "whole")
    assert len(wanted) == 8
    assert first > 8
    for at in range(1, first + 1):
        name = f"c{at}"
        home.bucket(name)
        with contextlib.suppress(Crash):
            await life(home, configuration, name, at=at, after=after)
        await life(home, configuration, name)
        assert names(home, name) == wanted, at
        assert len(home.kubectl("get", "secret", "-l", f"putgate.io/uploadbucket={name}", "-oname").split()) == 1
        home.kubectl("delete", "uploadbucket", name, "--wait=false")
