"""How often one caller may call: a token bucket each, in this process alone.

Several replicas each allow as much; sharing a count would cost a store call per call. What is kept is bounded: the
caller that was quiet longest is forgotten, and begins with a full bucket, as a new one does.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from putgate_protocol.problems import problem

MAX_CALLERS = 10_000
"""Callers remembered; about 200 bytes each. Fewer, and callers who call often are forgiven what they have used."""


class Rates:
    def __init__(
        self,
        per_second: float,
        burst: int,
        refused: Callable[[Literal["rate"]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._refused = refused
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, owner: str) -> None:
        """Take one of the caller's calls. Raises `rate_limited`, with the seconds until there is one again."""
        now = self._clock()
        left, at = self._left.pop(owner, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        allowed = left >= 1
        self._left[owner] = (left - 1 if allowed else left, now)
        if len(self._left) > MAX_CALLERS:
            self._left.popitem(last=False)
        if not allowed:
            self._refused("rate")
            wait = round((1 - left) / self._per_second, 3)
            detail = f"you call more often than {self._per_second:g} times a second; put several files into one batch"
            raise problem("rate_limited", detail, retry_after=max(wait, 0.001))
