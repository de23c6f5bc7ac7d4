"""Tells an observer how every call ended and how long it took. It knows no metrics library; the observer does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from putgate_storage.errors import ConditionFailed, Refused, StoreError, Transient
from putgate_storage.store import Store
from putgate_storage.wrap.wrapped import Operation, wrap

T = TypeVar("T")

Outcome = Literal["ok", "condition_failed", "refused", "transient", "permanent", "cancelled"]
Observer = Callable[[str, Outcome, float], None]
"""Called with the operation's name (a Store method), its outcome, and seconds."""


def metered(inner: Store, observe: Observer) -> Store:
    """`inner`, observed. Beside a retry it belongs inside, so that every attempt is seen."""
    return wrap(inner, _Meter(observe))


class _Meter:
    def __init__(self, observe: Observer) -> None:
        self._observe = observe

    async def __call__(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        begun = time.perf_counter()
        try:
            answer = await call()
        except StoreError as error:
            self._observe(operation.name, _outcome(error), time.perf_counter() - begun)
            raise
        except asyncio.CancelledError:
            self._observe(operation.name, "cancelled", time.perf_counter() - begun)
            raise
        self._observe(operation.name, "ok", time.perf_counter() - begun)
        return answer


def _outcome(error: StoreError) -> Outcome:
    match error:
        case ConditionFailed():
            return "condition_failed"
        case Refused():
            return "refused"
        case Transient():
            return "transient"
        case _:
            return "permanent"
