"""While a server is away, one call a second asks for it on behalf of all; the others fail without asking.

A client may have thousands of small files under way, each of which tries again by itself: together they would meet a
server that comes back with a crowd. It decides nothing about trying again, and never holds a call up.
"""

from __future__ import annotations

import time
from collections.abc import Callable

LOST = 8
"""Calls lost one after another until the server counts as away. Fewer, and a bad line is taken for an outage; more,
and a real one is noticed later.
"""

PAUSE = 1.0
"""Seconds between two calls that ask. Shorter is a load on a server that starts; longer keeps everybody waiting."""


class Breaker:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lost = 0
        self._why = ""
        self._ask_at = 0.0

    def away(self) -> str | None:
        """Before a call: what the last one met, where this one should not ask."""
        if self._lost < LOST:
            return None
        now = self._clock()
        if now < self._ask_at:
            return self._why
        self._ask_at = now + PAUSE
        return None

    def lost(self, why: str) -> None:
        """The call had no answer."""
        self._lost += 1
        self._why = why

    def answered(self) -> None:
        """Any answer: it is there."""
        self._lost = 0
