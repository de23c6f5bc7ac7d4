"""Repeats what is transient and may be repeated, with full jitter and within bounds.

What may not be repeated fails at its first error: its caller must look at what happened.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import stamina

from putgate_storage.errors import Transient
from putgate_storage.store import Store
from putgate_storage.wrap.wrapped import Operation, wrap

T = TypeVar("T")

_NO_TIME = 1e-6
"""Seconds: to stamina, 0 is for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to insist; seconds. Too little: a store's hiccup becomes a client's error. Too much: requests pile up
    in front of a store that is down, where a client that is told so would wait better itself.
    """

    attempts: int = 4
    total: float = 15.0
    first_wait: float = 0.1
    longest_wait: float = 2.0


def retrying(inner: Store, patience: Patience | None = None, jitter: Callable[[], float] = random.random) -> Store:
    """`inner`, more patient. `jitter`: in [0, 1), the fraction of each wait that is waited."""
    return wrap(inner, _Retry(patience or Patience(), jitter))


class _Retry:
    def __init__(self, patience: Patience, jitter: Callable[[], float]) -> None:
        self._patience = patience
        self._jitter = jitter

    async def __call__(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        if not operation.repeatable:
            return await call()
        begun = time.monotonic()
        try:
            return await call()
        except Transient as error:
            first: Transient | None = error

        async def again() -> T:
            # The machinery of retries costs as much as half a HEAD: it begins with the first failure.
            nonlocal first
            if first is not None:
                failed, first = first, None
                raise failed
            return await call()

        left = max(self._patience.total - (time.monotonic() - begun), _NO_TIME)
        caller = stamina.AsyncRetryingCaller(attempts=self._patience.attempts, timeout=left)
        return await caller(_Backoff(self._patience, self._jitter), again)


class _Backoff:
    """Stamina's hook: False ends it, a number is the wait before the next attempt."""

    def __init__(self, patience: Patience, jitter: Callable[[], float]) -> None:
        self._patience = patience
        self._jitter = jitter
        self._ceiling = patience.first_wait

    def __call__(self, error: Exception) -> bool | float:
        if not isinstance(error, Transient):
            return False
        ceiling, self._ceiling = self._ceiling, min(self._ceiling * 2, self._patience.longest_wait)
        asked = error.delay or 0.0
        # A store that asks for longer than the caller waits is answered by the caller.
        return asked <= self._patience.total and asked + ceiling * self._jitter()
