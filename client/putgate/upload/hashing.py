"""Part hashes of a reading: several parts at once, in threads, a chunk at a time."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor

from putgate.upload.source import Reading
from putgate_protocol.digests import PartHash
from putgate_protocol.parts import MIB, Part, PartPlan

CHUNK = MIB
"""Bytes read at once: large enough that the interpreter lock is free most of the time, small enough for memory."""


def hash_part(reading: Reading, part: Part) -> PartHash:
    """SHA-256 of one part's bytes. Blocks. Raises `SourceChanged`, `OSError`."""
    digest = hashlib.sha256()
    for offset in range(part.offset, part.offset + part.length, CHUNK):
        digest.update(reading.pread(min(CHUNK, part.offset + part.length - offset), offset))
    return PartHash(digest.digest())


async def hash_parts(
    reading: Reading,
    plan: PartPlan,
    *,
    first: int,
    threads: int,
    pool: Executor,
    on_hashed: Callable[[int], None],
) -> AsyncIterator[PartHash]:
    """The hashes of part `first` and all after it, in order, `threads` parts ahead."""
    loop = asyncio.get_running_loop()
    ahead: deque[tuple[Part, asyncio.Future[PartHash]]] = deque()
    following = iter(range(first, plan.count + 1))
    try:
        while True:
            while len(ahead) <= threads and (number := next(following, None)) is not None:
                part = plan.part(number)
                ahead.append((part, loop.run_in_executor(pool, hash_part, reading, part)))
            if not ahead:
                return
            part, future = ahead.popleft()
            digest = await future
            on_hashed(part.length)
            yield digest
    finally:
        for _, future in ahead:
            future.cancel()
