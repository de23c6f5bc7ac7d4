"""The API dies, or an answer of the store is lost, at every point of a multipart upload.

The same client calls, repeated against a new process, end in exactly one committed file and no open upload.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from putgate_storage.s3.driver import S3Store
from tests.api.calls import Calls
from tests.api.state import state_of, store_of
from tests.servers.api import ApiProcess
from tests.servers.proxy import StoreProxy, When
from tests.servers.proxy_calls import Call, Predicate, nth
from tests.servers.proxy_faults import CutBefore, LoseAnswer
from tests.servers.seaweedfs import SeaweedFS

DATA = os.urandom(8 * 1024 * 1024 + 1000)

PATIENCE = 400.0
"""Seconds. A holder that died while completing is waited for a minute, by the design of sessions."""


Content = Callable[[str], bytes]


def own(name: str) -> bytes:
    """Content that no other name has: nothing is copied."""
    return name.encode() + DATA[len(name) :]


def same(_: str) -> bytes:
    """The content of all names: it is copied inside the store."""
    return DATA


@dataclass(slots=True)
class Stack:
    """An API behind whose back the test sees each call to the store."""

    api: ApiProcess
    proxy: StoreProxy
    calls: Calls
    store: S3Store

    def of_upload(self, name: str) -> Predicate:
        """The API's own calls to the store for this name: its key, or a record of its session or of its content."""
        wanted = (name.partition("/")[0].encode(), b".putgate/v1/sessions/", b".putgate/v1/index/")

        def matches(call: Call) -> bool:
            return not call.presigned and any(each in call.key for each in wanted)

        return matches


@pytest.fixture
async def stack(
    tmp_path: Path, seaweedfs: SeaweedFS, prefix: str, store_proxy: StoreProxy, http: aiohttp.ClientSession
) -> AsyncIterator[Stack]:
    api = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix, endpoint=store_proxy.url).start_probed()
    async with store_of(api) as store:
        yield Stack(api=api, proxy=store_proxy, calls=Calls(http, api.url, api.token), store=store)
    api.kill()


class Again(Exception):
    """The call has to be repeated: no answer, or one that says so."""


async def post(calls: Calls, call: str, body: dict[str, object]) -> dict[str, object]:
    try:
        status, answer = await calls.post(call, body)
    except aiohttp.ClientError:
        raise Again from None
    if status in {409, 503} and "retry_after" in answer:
        raise Again
    assert status == 200, answer
    return answer


async def upload_once(calls: Calls, name: str, content: Content = own) -> None:
    """One run of a client: initiate, send what is missing, complete. Raises `Again`."""
    data = content(name)
    try:
        status, answer = await calls.initiate(name, data)
    except aiohttp.ClientError:
        raise Again from None
    if status in {409, 503}:
        raise Again
    assert status == 200, answer
    if answer["status"] == "exists":
        return
    assert await calls.put_parts(answer, data) == [200] * len(answer["parts"])
    done = await post(calls, "complete_multipart_upload", {"upload_id": answer["upload_id"]})
    assert done["status"] == "complete"


async def upload_until_done(calls: Calls, name: str, content: Content = own) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await upload_once(calls, name, content)
            except Again:
                await asyncio.sleep(0.3)


async def check(stack: Stack, names: list[str], content: Content = own) -> None:
    """Every file once and whole, and nothing left open."""
    state = await state_of(stack.store, stack.api.prefix)
    files = [name for name in state.names(stack.api.prefix) if not name.endswith("/undisturbed")]
    assert sorted(files) == sorted(names)
    assert state.uploads == ()
    for name in names:
        assert await stack.calls.download(name) == content(name)


async def points(stack: Stack) -> list[str]:
    """The kinds of the API's calls to the store for one undisturbed upload, in order."""
    name = f"{secrets.token_hex(4)}/undisturbed"
    stack.proxy.reset()
    await upload_once(stack.calls, name)
    matches = stack.of_upload(name)
    return [call.kind for call in stack.proxy.requests if matches(call)]


def fault_names(kinds: list[str]) -> list[str]:
    return [f"{secrets.token_hex(4)}/{at:02}-{kind}" for at, kind in enumerate(kinds, 1)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_api_is_killed_at_each_point(stack: Stack, when: When) -> None:
    kinds = await points(stack)
    assert kinds.count("CreateMultipartUpload") == kinds.count("CompleteMultipartUpload") == 1
    names = fault_names(kinds)
    for at, name in enumerate(names, 1):
        # Killed in the proxy's own thread, while the call waits there: nothing of the process runs on.
        stack.proxy.on(nth(at, stack.of_upload(name)), lambda _: stack.api.kill(), when=when, times=1)
        with pytest.raises(Again):
            await upload_once(stack.calls, name)
        stack.proxy.heal()
        stack.api.start()
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(upload_until_done(stack.calls, name))
    await check(stack, names)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [LoseAnswer(), CutBefore()], ids=["lost", "cut"])
async def test_each_answer_of_the_store_is_lost_once(stack: Stack, fault: LoseAnswer | CutBefore) -> None:
    kinds = await points(stack)
    names = fault_names(kinds)
    for at, name in enumerate(names, 1):
        stack.proxy.rule(nth(at, stack.of_upload(name)), fault, times=1)
        await upload_until_done(stack.calls, name)
        stack.proxy.heal()
    await check(stack, names)
