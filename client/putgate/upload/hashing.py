"""Digests of a reading's parts: several parts at once, in threads, a chunk at a time, all digests in one reading."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import NamedTuple

from putgate.upload.source import Reading
from putgate_protocol.digests import Md5, PartHash
from putgate_protocol.parts import MIB, Part, PartPlan

CHUNK = MIB
"""Bytes read at once: large enough that the interpreter lock is free most of the time, small enough for memory."""


class Hashed(NamedTuple):
    """Of one part. `md5`: where it was asked for."""

    sha256: PartHash
    md5: Md5 | None


def hash_part(reading: Reading, part: Part, *, with_md5: bool = False) -> Hashed:
    """The digests of one part's bytes. Blocks. Raises `SourceChanged`, `OSError`."""
    sha256 = hashlib.sha256()
    md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None
    for offset in range(part.offset, part.offset + part.length, CHUNK):
        chunk = reading.pread(min(CHUNK, part.offset + part.length - offset), offset)
        sha256.update(chunk)
        if md5 is not None:
            md5.update(chunk)
    return Hashed(PartHash(sha256.digest()), None if md5 is None else Md5(md5.digest()))


async def hash_parts(
    reading: Reading,
    plan: PartPlan,
    *,
    first: int,
    threads: int,
    pool: Executor,
    on_hashed: Callable[[int], None],
    with_md5: bool = False,
) -> AsyncIterator[Hashed]:
    """The digests of part `first` and all after it, in order, `threads` parts ahead."""
    loop = asyncio.get_running_loop()

    def compute(part: Part) -> Hashed:
        return hash_part(reading, part, with_md5=with_md5)

    ahead: deque[tuple[Part, asyncio.Future[Hashed]]] = deque()
    following = iter(range(first, plan.count + 1))
    try:
        while True:
            while len(ahead) <= threads and (number := next(following, None)) is not None:
                part = plan.part(number)
                ahead.append((part, loop.run_in_executor(pool, compute, part)))
            if not ahead:
                return
            part, future = ahead.popleft()
            digest = await future
            on_hashed(part.length)
            yield digest
    finally:
        for _, future in ahead:
            future.cancel()
