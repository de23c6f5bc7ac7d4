"""Trying again, with full jitter: the one place that knows how long and how often.

It decides nothing about what may be tried again; callers pass a function that says so.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import stamina

from putgate.errors import Unreachable
from putgate_protocol.problems import Problem

FIRST_DELAY = 0.2
"""Seconds; the upper end of the first random delay, doubled each time."""

MAX_DELAY = 20.0
"""Seconds; longer would keep a client asleep after a store has come back."""

MOST_ASKED = 60.0
"""Seconds; who asks for a longer wait is asked again all the same."""

LEAST_TRIES = 3
"""A slow transfer that fails once, late, still gets its second and third chance."""

_PASSING = frozenset({"rate_limited", "too_many_uploads", "store_unavailable", "not_ready", "upload_busy"})

Result = TypeVar("Result")

Transient = Callable[[Exception], float | None]
"""The least delay in seconds before the next try, or None when trying again is useless."""


def lost(error: Exception) -> float | None:
    """Lost connections alone: for callers of the wire, which has tried problems again for as long as it may."""
    if not isinstance(error, Unreachable) or error.given_up:
        return None
    return min(error.retry_after or 0.0, MOST_ASKED)


def passing(error: Exception) -> float | None:
    """What passes by itself: lost connections, and the problems that say so."""
    match error:
        case Unreachable():
            return lost(error)
        case Problem():
            return min(error.retry_after or 0.0, MOST_ASKED) if error.code in _PASSING else None
        case _:
            return None


async def persist(
    call: Callable[[], Awaitable[Result]], give_up_after: timedelta | None, transient: Transient = passing
) -> Result:
    """Call until it succeeds or there is no point any more; then its last error is raised.

    Time runs from the first failure, not from the first try: a part may take long to send.
    """
    try:
        return await call()
    except Exception as error:
        # The caller's rule decides; what it does not know as transient is raised as it is.
        if transient(error) is None:
            raise
        failure: Exception | None = error
    async for attempt in stamina.retry_context(on=_backoff(give_up_after, transient), attempts=None, timeout=None):
        with attempt:
            if failure is not None:
                # The machinery of retries costs more than a small file's PUT: it starts with the first failure.
                first, failure = failure, None
                raise first
            return await call()
    raise AssertionError("retries end by success or by an error")


def _backoff(give_up_after: timedelta | None, transient: Transient) -> Callable[[Exception], float | bool]:
    failed_at = time.monotonic()
    tries = 0

    def backoff(error: Exception) -> float | bool:
        nonlocal tries
        least = transient(error)
        if least is None:
            return False
        tries += 1
        elapsed = time.monotonic() - failed_at
        if give_up_after is not None and tries >= LEAST_TRIES and elapsed >= give_up_after.total_seconds():
            if isinstance(error, Unreachable):
                error.given_up = True
            return False
        return least + random.uniform(0.0, min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(tries - 1, 10)))

    return backoff
