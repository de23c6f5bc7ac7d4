"""A crowd of the largest batches: memory stays bounded, health answers, and everybody is served in the end."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import aiohttp
import pytest

from putgate.options import Options
from putgate.wire import Wire
from putgate_protocol.messages.batch import MAX_BODY_BYTES
from tests.api.calls import declaration
from tests.servers.api import ApiProcess

BATCHES = 1_000
ITEMS = 1_000
MOST_MEMORY = 512 * 1024 * 1024


def largest_batch() -> bytes:
    """1,000 one-part files, filled up to 4 MiB by members that the server does not know."""
    items = [{"initiate": declaration(f"crowd/{n:04}", b"%d" % n)} for n in range(ITEMS)]
    spare = (MAX_BODY_BYTES - len(json.dumps({"items": items}))) // ITEMS - len(', "unknown": ""')
    for item in items:
        item["initiate"]["unknown"] = "x" * spare
    body = json.dumps({"items": items}).encode()
    assert MAX_BODY_BYTES - ITEMS * 20 < len(body) <= MAX_BODY_BYTES
    return body


def most_memory(process: ApiProcess) -> int:
    """Bytes resident at the highest."""
    assert process.process is not None
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.slow
@pytest.mark.timeout(3600)
# Advice for whoever sends bodies as large as the protocol allows; a client's own batches are smaller.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_thousand_of_the_largest_batches_at_once(api: ApiProcess) -> None:
    body = largest_batch()
    served: list[int] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as http:

        async def one() -> None:
            wire = Wire(http, api.url, api.token, Options(give_up_after=None))
            answer = await wire._call("POST", "/object/batch", body)
            results = json.loads(answer.body)["results"]
            commits = [result["body"].get("commit") for result in results]
            assert commits == ["put"] * ITEMS
            served.append(len(results))

        async def health() -> int:
            """Until everybody is served; how often it was asked. It is never turned away."""
            asked = 0
            while len(served) < BATCHES:
                async with http.get(f"{api.admin_url}/healthz") as answer:
                    assert answer.status == 200
                asked += 1
                await asyncio.sleep(1)
            return asked

        async with asyncio.TaskGroup() as group:
            watching = group.create_task(health())
            for _ in range(BATCHES):
                group.create_task(one())
        async with http.get(f"{api.admin_url}/metrics") as answer:
            metrics = await answer.text()
    assert len(served) == BATCHES
    assert watching.result() > 0
    turned_away = re.search(r'putgate_api_turned_away_total\{limit="bytes"\} (\S+)', metrics)
    assert turned_away is not None
    assert float(turned_away[1]) > 0
    memory = most_memory(api)
    print(f"{memory / 1024**2:.0f} MiB at most, {turned_away[1]} turned away")  # noqa: T201 - what was measured
    assert memory <= MOST_MEMORY
