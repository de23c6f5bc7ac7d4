"""Ends calls that take too long in all. The driver's own timeouts are of silence: a store that trickles passes them.

What was cut off may have happened, as with any lost answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from putgate_storage.errors import Transient
from putgate_storage.store import Store
from putgate_storage.wrap.wrapped import Operation, wrap

T = TypeVar("T")


def deadlined(inner: Store, seconds: float) -> Store:
    """`inner`, whose calls are `Transient` after `seconds`. Inside a limit, so that waiting for a place is not counted;
    inside a retry, so that each attempt has its own time.
    """
    return wrap(inner, _Deadline(seconds))


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def __call__(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._seconds):
                return await call()
        except TimeoutError as error:
            detail = f"{operation.name}: no answer within {self._seconds:g} s"
            raise Transient(detail, code="DeadlineExceeded") from error
