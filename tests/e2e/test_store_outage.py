"""The store itself goes away in the middle of uploads, and comes back: a real SeaweedFS, killed and started again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.api.calls import Calls
from tests.api.state import state_of, store_of
from tests.servers.api import ApiProcess
from tests.servers.proxy import StoreProxy, running
from tests.servers.seaweedfs import SeaweedFS, require_weed

MIB = 1024 * 1024


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[SeaweedFS]:
    server = SeaweedFS(require_weed(), tmp_path / "seaweedfs")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def proxy(own_store: SeaweedFS) -> Iterator[StoreProxy]:
    with running(own_store.endpoint) as proxy:
        yield proxy


@pytest.fixture
def own_api(tmp_path: Path, own_store: SeaweedFS, proxy: StoreProxy) -> Iterator[ApiProcess]:
    api = ApiProcess(tmp_path / "api", own_store, prefix="outage/", endpoint=proxy.url).start()
    yield api
    api.kill()


@pytest.mark.slow
async def test_the_api_says_so_and_goes_on_when_it_is_back(
    own_store: SeaweedFS, own_api: ApiProcess, http: aiohttp.ClientSession
) -> None:
    calls = Calls(http, own_api.url, own_api.token)
    _, opened = await calls.initiate("big", os.urandom(9 * MIB))
    own_store.kill()
    for call in (
        calls.initiate("x", b"content"),
        calls.post("upload_status", {"upload_id": opened["upload_id"]}),
        calls.post("complete_multipart_upload", {"upload_id": opened["upload_id"]}),
    ):
        status, problem = await call
        assert (status, problem["code"]) == (503, "store_unavailable")
        assert problem["retry_after"] > 0
    own_store.start()
    async with asyncio.timeout(300):
        while (await calls.initiate("x", b"content"))[0] != 200:
            await asyncio.sleep(0.2)
    await calls.upload("x", b"content")
    assert await calls.download("x") == b"content"


@pytest.mark.slow
async def test_a_client_waits_and_finishes(
    tmp_path: Path, own_store: SeaweedFS, own_api: ApiProcess, proxy: StoreProxy, http: aiohttp.ClientSession
) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(200 * MIB))
    process = subprocess.Popen(
        [sys.executable, "-m", "putgate", "upload", str(path), "--to", "file"],
        env=os.environ | {"PUTGATE_SERVER": own_api.url, "PUTGATE_TOKEN": own_api.token, "HOME": str(tmp_path)},
    )
    await asyncio.to_thread(proxy.wait_until, lambda seen: seen.put_body_bytes > 40 * MIB, 300)
    own_store.kill()
    # It has to notice: at least one PUT fails before the store is back.
    await asyncio.to_thread(own_store.start)
    assert await asyncio.to_thread(process.wait, 600) == 0
    assert await Calls(http, own_api.url, own_api.token).download("file") == path.read_bytes()
    async with store_of(own_api) as store:
        assert (await state_of(store, "outage/")).uploads == ()
