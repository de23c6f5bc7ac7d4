"""Two API processes serve one upload between them: begun here, signed there, completed at either, by whoever lives."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import putgate
from tests.api.calls import Calls
from tests.api.state import state_of, store_of
from tests.e2e.replicas import replica_of
from tests.servers.api import ApiProcess
from tests.servers.proxy import StoreProxy, When
from tests.servers.proxy_calls import kind
from tests.servers.proxy_faults import CutBefore
from tests.servers.required import missing
from tests.servers.seaweedfs import SeaweedFS

PART = 8 * 1024 * 1024
DATA = os.urandom(2 * PART + 1000)
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@dataclass(kw_only=True)
class Pair:
    """`one` reaches the store through `store`, which can break things; `other` does not."""

    one: ApiProcess
    other: ApiProcess
    store: StoreProxy
    http: aiohttp.ClientSession

    def calls(self, api: ApiProcess) -> Calls:
        return Calls(self.http, api.url, api.token)

    async def begun(self, name: str, data: bytes = DATA) -> dict[str, Any]:
        """An upload that `one` has begun, with all of its parts sent."""
        calls = self.calls(self.one)
        status, answer = await calls.initiate(name, data)
        assert (status, answer["status"]) == (200, "upload")
        assert set(await calls.put_parts(answer, data)) == {200}
        return answer

    async def complete(self, api: ApiProcess, upload_id: str) -> tuple[int, dict[str, Any]]:
        return await self.calls(api).post("complete_multipart_upload", {"upload_id": upload_id})

    async def completed(self, api: ApiProcess, upload_id: str) -> dict[str, Any]:
        """As a client does it: asked again for as long as somebody else is at it."""
        deadline = time.monotonic() + 240
        while True:
            status, answer = await self.complete(api, upload_id)
            if status == 200:
                return answer
            assert (status, answer["code"]) == (409, "upload_busy"), answer
            assert time.monotonic() < deadline
            await asyncio.sleep(min(answer["retry_after"], 5))

    async def check_one_file(self, name: str) -> None:
        async with store_of(self.other) as store:
            state = await state_of(store, self.other.prefix)
        assert (state.names(self.other.prefix), state.uploads) == ([name], ())
        assert await self.calls(self.other).download(name) == DATA


@pytest.fixture
async def pair(
    tmp_path: Path, seaweedfs: SeaweedFS, prefix: str, store_proxy: StoreProxy, http: aiohttp.ClientSession
) -> AsyncIterator[Pair]:
    one = ApiProcess(tmp_path / "one", seaweedfs, prefix=prefix, endpoint=store_proxy.url)
    one.settings["storage"]["s3"]["public_endpoint"] = seaweedfs.endpoint
    other = replica_of(one, tmp_path / "other")
    await asyncio.to_thread(one.start)
    await asyncio.to_thread(other.start)
    yield Pair(one=one, other=other, store=store_proxy, http=http)
    one.kill()
    other.kill()


@pytest.mark.slow
async def test_each_call_of_an_upload_may_reach_another_process(pair: Pair) -> None:
    one, other = pair.calls(pair.one), pair.calls(pair.other)
    status, answer = await one.initiate("x", DATA)
    assert status == 200
    status, again = await other.initiate("x", DATA)
    assert (status, again["uploaded"]) == (200, [])
    assert await other.send(again["parts"][0], DATA[:PART]) == 200
    status, signed = await other.post("auth_sign", {"upload_id": answer["upload_id"], "part_numbers": [2]})
    assert status == 200
    assert await one.send(signed["parts"][0], DATA[PART : 2 * PART]) == 200
    status, found = await one.post("upload_status", {"upload_id": again["upload_id"]})
    assert [part["part_number"] for part in found["uploaded"]] == [1, 2]
    assert await one.send(answer["parts"][2], DATA[2 * PART :]) == 200
    first, second = await asyncio.gather(
        pair.completed(pair.one, again["upload_id"]), pair.completed(pair.other, answer["upload_id"])
    )
    assert first["file"]["version"] == second["file"]["version"]
    await pair.check_one_file("x")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_holder_that_is_killed_as_it_completes_is_taken_over(pair: Pair, when: When) -> None:
    upload_id = (await pair.begun("x"))["upload_id"]
    if when == "before":
        pair.store.rule(kind("CompleteMultipartUpload"), CutBefore(), times=1)
    pair.store.on(kind("CompleteMultipartUpload"), lambda _: pair.one.kill(), when=when, times=1)
    with pytest.raises(aiohttp.ClientError):
        await pair.complete(pair.one, upload_id)
    status, answer = await pair.complete(pair.other, upload_id)
    if when == "before":
        # What the store was asked by one who is dead now may still be at work: nobody else asks it too soon.
        assert (status, answer["code"]) == (409, "upload_busy")
        assert 0 < answer["retry_after"] <= 60
    answer = await pair.completed(pair.other, upload_id)
    assert answer["status"] == "complete"
    await asyncio.to_thread(pair.one.start)
    assert (await pair.completed(pair.one, upload_id))["file"]["version"] == answer["file"]["version"]
    await pair.check_one_file("x")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_holder_that_stood_still_for_90_seconds_harms_nothing(pair: Pair, when: When) -> None:
    """Its process is stopped at the store's Complete; it goes on when another has finished the upload."""
    upload_id = (await pair.begun("x"))["upload_id"]
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    process = pair.one.process
    assert process is not None

    def stop(_: object) -> None:
        process.send_signal(signal.SIGSTOP)
        loop.call_soon_threadsafe(stopped.set)

    pair.store.on(kind("CompleteMultipartUpload"), stop, when=when, times=1)
    held = asyncio.create_task(pair.complete(pair.one, upload_id))
    try:
        async with asyncio.timeout(60):
            await stopped.wait()
        begun = time.monotonic()
        answer = await pair.completed(pair.other, upload_id)
        assert answer["status"] == "complete"
        later = b"another content of that name " + secrets.token_bytes(8)
        await pair.calls(pair.other).upload("x", later)
        await asyncio.sleep(max(0.0, begun + 90 - time.monotonic()))
    finally:
        process.send_signal(signal.SIGCONT)
    status, late = await held
    # Its upload was finished, and its file replaced since: a client that began again would put the older content back.
    assert (status, late["status"]) == (200, "superseded")
    assert await pair.calls(pair.other).download("x") == later
    async with store_of(pair.other) as store:
        state = await state_of(store, pair.other.prefix)
    assert (state.names(pair.other.prefix), state.uploads) == (["x"], ())


@pytest.mark.slow
@pytest.mark.parametrize("shift", ["-10m", "+10m"])
async def test_clocks_apart(pair: Pair, shift: str) -> None:
    """Leases and lives are told by the store's time, whatever a process's own clock says."""
    if FAKETIME is None:
        missing("needs libfaketime: apt-get install faketime")
    pair.one.kill()
    pair.one.environment |= {"LD_PRELOAD": str(FAKETIME), "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    await asyncio.to_thread(pair.one.start)
    upload_id = (await pair.begun("x"))["upload_id"]
    pair.store.rule(kind("CompleteMultipartUpload"), CutBefore(), times=1)
    pair.store.on(kind("CompleteMultipartUpload"), lambda _: pair.one.kill(), times=1)
    with pytest.raises(aiohttp.ClientError):
        await pair.complete(pair.one, upload_id)
    begun = time.monotonic()
    status, answer = await pair.complete(pair.other, upload_id)
    assert (status, answer["code"]) == (409, "upload_busy")
    assert 0 < answer["retry_after"] <= 60
    await asyncio.to_thread(pair.one.start)
    # Not sooner and not later than any other takes it over.
    assert (await pair.completed(pair.one, upload_id))["status"] == "complete"
    assert time.monotonic() - begun > 30
    await pair.check_one_file("x")


@pytest.mark.slow
async def test_upload_keys_rotate_under_load_without_a_failed_upload(pair: Pair, tmp_path: Path) -> None:
    """Accepted everywhere first, then signing, then the old one retired when no upload of it is left."""
    keys = Path(pair.one.settings["upload_keys"]["file"])
    old = keys.read_text()
    new = f"k2 {base64.b64encode(secrets.token_bytes(32)).decode()}\n"
    path = tmp_path / "content"
    rounds, stop = [0, 0], asyncio.Event()

    async def load(index: int, api: ApiProcess) -> None:
        async with putgate.Client(api.url, token=pair.one.token) as client:
            while not stop.is_set():
                # Each of two parts, so that an upload id is held for a while.
                mine = path.with_name(f"content-{index}-{rounds[index]}")
                mine.write_bytes(os.urandom(PART + 1000))
                await client.upload(mine, f"{index}/{rounds[index]}")
                mine.unlink()
                rounds[index] += 1

    async def after_some(count: int) -> None:
        begun = list(rounds)
        deadline = time.monotonic() + 240
        while min(now - then for now, then in zip(rounds, begun, strict=True)) < count:
            assert time.monotonic() < deadline
            assert not any(task.done() for task in tasks)
            await asyncio.sleep(0.05)

    def write(text: str) -> None:
        fresh = keys.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(keys)

    before = (await pair.begun("x"))["upload_id"]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(load(index, api)) for index, api in enumerate((pair.one, pair.other))]
        for text in (old + new, new + old):
            write(text)
            await after_some(3)
        # One that began before is finished under the key that only is accepted by now.
        assert (await pair.completed(pair.other, before))["status"] == "complete"
        after = (await pair.begun("y", DATA[1:]))["upload_id"]
        await after_some(2)
        stop.set()
    write(new)
    assert (await pair.completed(pair.one, after))["status"] == "complete"
    status, answer = await pair.complete(pair.other, before)
    assert (status, answer["code"]) == (400, "upload_id_invalid")
