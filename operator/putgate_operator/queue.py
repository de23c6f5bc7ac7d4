"""A queue of keys: each is worked on by one worker at a time, and once more if it was added meanwhile.

Events carry no meaning here beyond "look at this object again"; so dropped, repeated and reordered events are the
same to it. It knows nothing of Kubernetes.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

FIRST_DELAY = 0.5
LAST_DELAY = 60.0
"""Seconds before a failed key is tried again, doubled each time. Too short floods an API server that is ill; too
long delays an object after its trouble has gone."""


@dataclass(slots=True)
class _Waiting:
    """When a key is due (loop time), and since when it has been wanted."""

    due: float
    since: float


class WorkQueue(Generic[Key]):
    """`add` keys; `run` works on them until cancelled. `add_after` never delays what is due sooner."""

    def __init__(self, *, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._waiting: dict[Key, _Waiting] = {}
        self._order: list[tuple[float, int, Key]] = []
        self._numbers = itertools.count()
        self._running: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._closed = False
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, key: Key) -> None:
        self.add_after(key, 0.0)

    def add_after(self, key: Key, seconds: float) -> None:
        """Work on `key` in `seconds`, or sooner if it is due sooner already."""
        now = asyncio.get_running_loop().time()
        due = now + max(0.0, seconds)
        waiting = self._waiting.get(key)
        if waiting is not None and waiting.due <= due:
            return
        self._waiting[key] = _Waiting(due=due, since=now if waiting is None else waiting.since)
        heapq.heappush(self._order, (due, next(self._numbers), key))
        self._changed.set()

    def forget(self, key: Key) -> None:
        """The object is gone: nothing to work on."""
        self._waiting.pop(key, None)
        self._again.discard(key)
        self._failures.pop(key, None)

    def close(self) -> None:
        """Take no key into work any more; what is in work goes on to its end."""
        self._closed = True

    @property
    def depth(self) -> int:
        """Keys that are due or in work."""
        now = asyncio.get_running_loop().time()
        return len(self._running) + sum(waiting.due <= now for waiting in self._waiting.values())

    @property
    def oldest(self) -> float:
        """Seconds since the longest waiting key became due; 0 when none is."""
        now = asyncio.get_running_loop().time()
        return max((now - waiting.due for waiting in self._waiting.values() if waiting.due <= now), default=0.0)

    async def run(self, work: Callable[[Key], Awaitable[float | None]], *, workers: int) -> None:
        """Work until cancelled. `work` returns the seconds after which to come again, or None; what it raises is
        its own to log: the key comes again after a growing delay.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._worker(work))

    async def drained(self) -> None:
        """Return when no key is in work. Unless it is closed, the next may be taken at once."""
        await self._idle.wait()

    async def _worker(self, work: Callable[[Key], Awaitable[float | None]]) -> None:
        while True:
            key = await self._take()
            try:
                again = await work(key)
            except Exception:  # noqa: BLE001 (told by `work`; one key's failure never stops the others)
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                delay = min(LAST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 16))
                again = delay * (0.5 + self._jitter() / 2)
            else:
                self._failures.pop(key, None)
            finally:
                self._running.discard(key)
                if not self._running:
                    self._idle.set()
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            elif again is not None:
                self.add_after(key, again)

    async def _take(self) -> Key:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            if (found := self._due(loop.time())) is not None:
                self._running.add(found)
                self._idle.clear()
                return found
            timeout = max(0.0, self._order[0][0] - loop.time()) if self._order and not self._closed else None
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _due(self, now: float) -> Key | None:
        """The first key that is due; one that is in work comes again when that work is done."""
        while not self._closed and self._order and self._order[0][0] <= now:
            due, _, key = heapq.heappop(self._order)
            waiting = self._waiting.get(key)
            if waiting is None or waiting.due != due:
                continue  # forgotten, or there is an earlier entry
            del self._waiting[key]
            if key not in self._running:
                return key
            self._again.add(key)
        return None
