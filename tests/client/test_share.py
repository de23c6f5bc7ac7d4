"""One large file leaves room for another."""

from __future__ import annotations

import threading

from tests.client.stack import MIB, Stack, a_stack, the_servers  # noqa: F401
from tests.servers.proxy_calls import Call, kind


async def test_a_file_sends_its_share_of_parts_at_once(stack: Stack) -> None:
    pair = threading.Barrier(2, timeout=60)
    under_way: list[int] = []

    def arrive(_: Call) -> None:
        # Two must meet; a third that came meanwhile is seen by whoever is the last of its pair.
        pair.wait()
        under_way.append(sum(call.status is None for call in stack.store.of_kind("UploadPart")))

    stack.store.reset()
    stack.store.on(kind("UploadPart"), arrive)
    async with stack.client(concurrency=8, large_files=4) as client:
        await client.upload(stack.file(48 * MIB), f"{stack.prefix}large")
    assert len(under_way) == 6
    assert max(under_way) == 2
