"""A store that is asked only so often: housekeeping must not be felt by those who upload."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from putgate_storage.store import Store
from putgate_storage.wrap.wrapped import Operation, wrap

T = TypeVar("T")


def paced(inner: Store, per_second: float) -> Store:
    """`inner`, called at most so often, evenly. Around a retry: what is tried again waits by the retry's own rules."""
    return wrap(inner, _Pace(per_second))


class _Pace:
    def __init__(self, per_second: float) -> None:
        self._gap = 1 / per_second
        self._next = 0.0

    async def __call__(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        now = asyncio.get_running_loop().time()
        begin = max(now, self._next)
        self._next = begin + self._gap
        await asyncio.sleep(begin - now)
        return await call()
