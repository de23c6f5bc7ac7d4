"""One API process finishes what another has begun and did not end: killed late in it, or paused and gone on much later.

Each of the two reaches the store through a proxy of its own, so that a test breaks what one does without touching the
other. What they leave is checked by housekeeping and by a check that reads every file.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from putgate_api.backend import check_store
from putgate_api.fsck.finding import Finding, Looked
from putgate_protocol.settings.api import ApiSettings
from tests.api.calls import Calls
from tests.api.state import state_of, store_of
from tests.api.test_program import run, written
from tests.api.waiting import until
from tests.servers.api import ApiProcess
from tests.servers.proxy import StoreProxy
from tests.servers.proxy_calls import Call, kind
from tests.servers.proxy_faults import CutBefore
from tests.servers.seaweedfs import SeaweedFS

MIB = 1024 * 1024
DATA = os.urandom(8 * MIB + 1000)
OTHER = os.urandom(8 * MIB + 500)
TAKEN_OVER_WITHIN = 200.0
"""Seconds. A holder counts as alive for a minute after its last sign of life."""


@dataclass(frozen=True, slots=True)
class Replica:
    """`store`: the proxy through which this process alone reaches the store."""

    api: ApiProcess
    store: StoreProxy
    calls: Calls

    async def complete(self, answer: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return await self.calls.post("complete_multipart_upload", {"upload_id": answer["upload_id"]})


@dataclass(frozen=True, slots=True)
class Pair:
    first: Replica
    second: Replica

    def __iter__(self) -> Any:
        return iter((self.first, self.second))

    async def is_whole(self, files: dict[str, bytes]) -> None:
        """Exactly these files are there, byte for byte, by way of either; after a round of housekeeping nothing is
        left open, and a check that reads every file finds nothing.
        """
        api = self.first.api
        cleaned = await asyncio.to_thread(run, "janitor", "--once", "--json", "--config", written(api))
        assert cleaned.returncode == 0, cleaned.stderr
        assert json.loads(cleaned.stdout)["kept_stray_uploads"] == 0
        async with store_of(api) as store:
            state = await state_of(store, api.prefix)
        assert (sorted(state.names(api.prefix)), state.uploads) == (sorted(files), ())
        for replica in self:
            for name, data in files.items():
                assert await replica.calls.download(name) == data
        looked, findings = Looked(), list[Finding]()
        await check_store(ApiSettings.model_validate(api.settings), looked, findings.append, rehash=True)
        assert (findings, looked.files, looked.rehashed) == ([], len(files), len(files))


async def opened(replica: Replica) -> dict[str, Any]:
    """The upload of `file` begun there, with all parts in the store."""
    status, answer = await replica.calls.initiate("file", DATA)
    assert (status, answer["status"], answer["commit"]) == (200, "upload", "complete")
    assert await replica.calls.put_parts(answer, DATA) == [200, 200]
    return answer


async def taken_over(replica: Replica, answer: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Complete there, as a client does that is told to wait; the file, and how often it was told so."""
    waits = 0

    async def ask() -> tuple[int, dict[str, Any]]:
        nonlocal waits
        status, said = await replica.complete(answer)
        if status != 200:
            assert (status, said["code"]) == (409, "upload_busy"), said
            assert 0 < said["retry_after"] <= 60
            waits += 1
        return status, said

    _, said = await until(ask, lambda got: got[0] == 200, within=TAKEN_OVER_WITHIN)
    assert said["status"] == "complete"
    return said["file"], waits


@pytest.fixture
async def pair(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str, http: aiohttp.ClientSession) -> AsyncIterator[Pair]:
    with StoreProxy(seaweedfs.endpoint) as one, StoreProxy(seaweedfs.endpoint) as two:
        first = ApiProcess(tmp_path / "first", seaweedfs, prefix=prefix, endpoint=one.url)
        second = ApiProcess(tmp_path / "second", seaweedfs, prefix=prefix, endpoint=two.url)
        second.token, second.tokens = first.token, first.tokens
        second.write_tokens()
        (second.folder / "upload-keys").write_bytes((first.folder / "upload-keys").read_bytes())
        await asyncio.to_thread(first.start)
        await asyncio.to_thread(second.start)
        yield Pair(
            *(Replica(api, proxy, Calls(http, api.url, api.token)) for api, proxy in ((first, one), (second, two)))
        )
        for api in (first, second):
            api.kill()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", ["before the hint", "before the end's note"])
async def test_a_holder_that_is_killed_after_the_publication_is_taken_over_at_once(pair: Pair, point: str) -> None:
    """The store has published, so the other need not wait; both give the one file as the answer from then on."""
    answer = await opened(pair.first)
    dead = pair.first.store

    def kill(_: Call) -> None:
        pair.first.api.kill()

    def hint(call: Call) -> bool:
        return call.method == "PUT" and b"/.putgate/v1/index/" in call.key

    def published(call: Call) -> bool:
        """The record's next write after the store has published."""
        of_record = call.method == "PUT" and b"/.putgate/v1/sessions/" in call.key
        return of_record and dead.counts["CompleteMultipartUpload"] > 0

    fits = hint if point == "before the hint" else published
    dead.on(fits, kill, times=1)
    # What a dead process was about to send does not arrive.
    dead.rule(fits, CutBefore(), times=1)
    with pytest.raises(aiohttp.ClientError):
        await pair.first.complete(answer)
    assert pair.first.api.process is None
    file, waits = await taken_over(pair.second, answer)
    assert waits == 0
    dead.heal()
    await asyncio.to_thread(pair.first.api.start)
    for replica in pair:
        assert (await replica.complete(answer))[1]["file"]["version"] == file["version"]
    await pair.is_whole({"file": DATA})


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("replaced", [False, True], ids=["kept", "replaced"])
@pytest.mark.parametrize("point", ["before it holds", "while it holds"])
async def test_a_paused_process_that_goes_on_harms_nothing(pair: Pair, point: str, replaced: bool) -> None:
    """It stands still for as long as the other needs to finish in its place, and then does what it was about to do."""
    answer = await opened(pair.first)
    process = pair.first.api.process
    assert process is not None
    paused, goes_on = threading.Event(), threading.Event()

    def pause(call: Call) -> None:
        process.send_signal(signal.SIGSTOP)
        paused.set()
        if call.kind == "CompleteMultipartUpload":
            # The request is on its way, and arrives long after.
            goes_on.wait(TAKEN_OVER_WITHIN)

    if point == "before it holds":
        pair.first.store.on(kind("ListParts"), pause, when="after", times=1)
    else:
        pair.first.store.on(kind("CompleteMultipartUpload"), pause, times=1)
    try:
        asked = asyncio.create_task(pair.first.complete(answer))
        assert await asyncio.to_thread(paused.wait, 60)
        file, waits = await taken_over(pair.second, answer)
        assert (waits > 0) == (point == "while it holds")
        if replaced:
            file = await pair.second.calls.upload("file", OTHER)
    finally:
        goes_on.set()
        process.send_signal(signal.SIGCONT)
    status, said = await asked
    if replaced:
        assert (status, said["status"]) == (200, "superseded")
    else:
        assert (status, said["file"]["version"]) == (200, file["version"])
    await pair.is_whole({"file": OTHER if replaced else DATA})
