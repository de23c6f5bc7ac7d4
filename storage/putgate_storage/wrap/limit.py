"""Bounds how many calls are with the store at once; the others wait their turn.

Beside a retry it belongs inside, so that a call which waits for its next attempt holds no place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from putgate_storage.store import Store
from putgate_storage.wrap.wrapped import Operation, wrap

T = TypeVar("T")


def limited(inner: Store, calls: int) -> Store:
    """`inner` with at most `calls` at once. Raises `ValueError` for less than one."""
    if calls < 1:
        raise ValueError("a store that may never be called is of no use")
    return wrap(inner, _Limit(calls))


class _Limit:
    def __init__(self, calls: int) -> None:
        self._places = asyncio.Semaphore(calls)

    async def __call__(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        async with self._places:
            return await call()
