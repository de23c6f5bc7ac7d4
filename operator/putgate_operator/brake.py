"""Keeps a repair from becoming a fight: what others change back each time is written now and then, not without end.

An admission webhook that alters what is applied, or a controller with another opinion, would otherwise have two
programs write in turns as fast as the API server lets them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from putgate_operator.observed import ChildKey
from putgate_operator.seen import Place

BURST = 20
"""How many times one child is written with one and the same wish before it is in dispute. Fewer, and people who undo
a few edits wait."""

EVERY = 20.0
"""Seconds between two writes of a child that is in dispute."""

CALM = 60.0
"""Seconds without a write that end a dispute; some times `EVERY`, or it would end and begin again."""


@dataclass(slots=True, kw_only=True)
class _Writes:
    """Of one wish: how many, and when the last was."""

    digest: str
    count: int = 0
    last: float = -math.inf


class Brake:
    """`clock`: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._writes: dict[Place, dict[ChildKey, _Writes]] = {}

    def allows(self, place: Place, child: ChildKey, digest: str) -> bool:
        """Whether a child may be written now so that it is as `digest` says; it counts as written then."""
        now, known = self._clock(), self._writes.setdefault(place, {})
        writes = known.get(child)
        if writes is None or writes.digest != digest or now - writes.last > CALM:
            writes = known[child] = _Writes(digest=digest)
        if writes.count >= BURST and now - writes.last < EVERY:
            return False
        writes.count += 1
        writes.last = now
        return True

    def disputed(self, place: Place) -> ChildKey | None:
        """A child that is in dispute."""
        now = self._clock()
        found = self._writes.get(place, {}).items()
        return next((child for child, each in found if each.count >= BURST and now - each.last <= CALM), None)

    def forget(self, place: Place) -> None:
        self._writes.pop(place, None)
