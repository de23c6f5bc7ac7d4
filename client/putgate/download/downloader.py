"""The way of a download: look at the file, fetch its ranges, judge the whole.

Either the whole, right file appears under its target's name, or nothing does. A file that another tool has stored has
no file hash: it is checked by its size and version alone, and its `File` says so by having none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from putgate.download.ranges import Means, Ranges, Version
from putgate.download.stream import Poured
from putgate.download.unfinished import Run, Unfinished
from putgate.errors import FileReplaced, NotVerified
from putgate.wire import Stat
from putgate_protocol.messages.base import File
from putgate_protocol.names import Name
from putgate_protocol.problems import NotFound

OnCount = Callable[[int], None]

TRIES = 3
"""How many versions of a file are tried: one that is replaced while it is fetched is fetched anew, as it now is."""

RANGES = 8
"""Of one file at once, or fewer where `Options.concurrency` is less. More gain nothing and each holds some memory."""


class Downloader:
    def __init__(self, means: Means) -> None:
        self._means = means

    async def to_file(self, name: Name, target: Path, on_bytes: OnCount) -> File:
        """Fetch `name` into `target`, replacing what is there only when all of it has arrived and is right.

        A new file has the permissions of any new file; one that is replaced keeps its own. What a failed try has
        fetched stays beside the target, hidden, for the next one.

        Raises `FileReplaced` where it was replaced again and again, `NotFound` and other problems, `Unreachable`,
        `StoreRefused`, `NotVerified`, `OSError`.
        """
        for _ in range(TRIES - 1):
            with contextlib.suppress(FileReplaced):
                return await self._one_version(name, target, on_bytes)
        return await self._one_version(name, target, on_bytes)

    async def _one_version(self, name: Name, target: Path, on_bytes: OnCount) -> File:
        loop, pool = asyncio.get_running_loop(), self._means.pool
        stat = await self._means.wire.stat(name)
        with _taken_back(on_bytes) as told:
            async with self._unfinished(target, name, stat) as unfinished:
                await self._go_on(unfinished, told)
                ranges = Ranges(self._means, _version(name, stat), told)
                await self._fetch(ranges, unfinished.runs())
                await loop.run_in_executor(pool, unfinished.finish)
        return stat.file

    async def to_stream(self, name: Name, stream: BinaryIO, on_bytes: OnCount) -> File:
        """Write `name` to `stream`, in order. What is wrong with the whole shows only at its end, as `NotVerified`."""
        loop, pool = asyncio.get_running_loop(), self._means.pool
        stat = await self._means.wire.stat(name)
        poured = Poured(stream, name, stat)
        await Ranges(self._means, _version(name, stat), on_bytes).fill(poured, stat.file.size)
        await loop.run_in_executor(pool, poured.finish)
        return stat.file

    @contextlib.asynccontextmanager
    async def _unfinished(self, target: Path, name: Name, stat: Stat) -> AsyncIterator[Unfinished]:
        loop, pool = asyncio.get_running_loop(), self._means.pool
        unfinished = await loop.run_in_executor(pool, Unfinished, target, name, stat)
        try:
            yield unfinished
        except (FileReplaced, NotFound):
            unfinished.give_up()
            raise
        finally:
            await loop.run_in_executor(pool, unfinished.close)

    async def _go_on(self, unfinished: Unfinished, told: OnCount) -> None:
        """Look at what an earlier try has left."""
        loop, hashers = asyncio.get_running_loop(), self._means.hashers
        looks = [loop.run_in_executor(hashers, unfinished.recheck, number) for number in unfinished.claimed]
        try:
            for look in looks:
                told(await look)
        finally:
            for look in looks:
                look.cancel()

    async def _fetch(self, ranges: Ranges, runs: list[Run]) -> None:
        """Several runs at once. The first that fails ends the others."""
        waiting = iter(runs)

        async def work() -> None:
            for run in waiting:
                await ranges.fill(run, run.end)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(runs), self._means.options.concurrency, RANGES)):
                    group.create_task(work())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None


def _version(name: Name, stat: Stat) -> Version:
    """Raises `NotVerified`."""
    if not stat.file.version and not stat.file.file_hash and stat.file.size:
        raise NotVerified(
            f"{name}: it has neither version nor hash, so nothing tells whether its bytes belong together"
        )
    return Version(name=name, size=stat.file.size, etag=stat.file.version or None)


@contextlib.contextmanager
def _taken_back(on_bytes: OnCount) -> Iterator[OnCount]:
    """Counts what is told, and takes it back where it came to nothing."""
    total = 0

    def told(count: int) -> None:
        nonlocal total
        total += count
        on_bytes(count)

    try:
        yield told
    except BaseException:
        on_bytes(-total)
        raise
