"""Ten client processes, released together, against one API."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.api.calls import Calls
from tests.api.state import state_of, store_of
from tests.servers.api import ApiProcess

PROCESSES = 10
UPLOADER = """
import asyncio, sys, putgate
url, token, path, name = sys.argv[1:]
async def main():
    async with putgate.Client(url, token=token) as client:
        await client.upload(path, name)
print("loaded", flush=True)
sys.stdin.readline()
asyncio.run(main())
"""


def upload_together(api: ApiProcess, path: Path, names: list[str]) -> list[int]:
    """Start a process per name, let all go at once; their exit codes."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", UPLOADER, api.url, api.token, str(path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in names
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == b"loaded\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    codes = []
    for process in started:
        process.communicate(timeout=600)
        codes.append(process.returncode)
    return codes


@pytest.mark.slow
@pytest.mark.parametrize("size", [pytest.param(4096, id="one put"), pytest.param(20_000_000, id="three parts")])
async def test_one_content_to_one_name_and_to_ten(
    api: ApiProcess, tmp_path: Path, http: aiohttp.ClientSession, size: int
) -> None:
    data = os.urandom(size)
    path = tmp_path / "content"
    path.write_bytes(data)
    calls = Calls(http, api.url, api.token)
    names = [f"many/{index}" for index in range(PROCESSES)]
    async with store_of(api) as store:
        assert upload_together(api, path, ["one/x"] * PROCESSES) == [0] * PROCESSES
        assert upload_together(api, path, names) == [0] * PROCESSES
        state = await state_of(store, api.prefix)
    assert state.names(api.prefix) == [*names, "one/x"]
    assert state.uploads == ()
    for name in (*names, "one/x"):
        assert await calls.download(name) == data


async def test_two_contents_to_one_name(api: ApiProcess, tmp_path: Path, http: aiohttp.ClientSession) -> None:
    contents = [os.urandom(size) for size in (20_000_000, 20_000_001)]
    started = []
    for index, data in enumerate(contents):
        path = tmp_path / str(index)
        path.write_bytes(data)
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", UPLOADER, api.url, api.token, str(path), "x"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
            )
        )
    for process in started:
        process.communicate(b"\n", timeout=600)
        assert process.returncode == 0
    assert await Calls(http, api.url, api.token).download("x") in contents
    async with store_of(api) as store:
        state = await state_of(store, api.prefix)
    assert (state.names(api.prefix), state.uploads) == (["x"], ())
