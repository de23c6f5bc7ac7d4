"""Keeps a repair from becoming a fight: what others change back each time is written now and then, not without end.

An admission webhook that alters what is applied, or a controller with another opinion, would otherwise have two
programs write in turns as fast as the API server lets them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from putgate_operator.observed import ChildKey
from putgate_operator.seen import Place

BURST = 20
REFILL = 10.0
"""How many times one child is written with one and the same wish before it is braked, and seconds between two such
writes from then on. Fewer, and people who undo a few edits wait; more often, and a fight is a load."""


@dataclass(slots=True, kw_only=True)
class _Wish:
    """What was last written, and how often it may be written again: `left` at the time `since`."""

    digest: str
    left: float
    since: float


class Brake:
    """`clock`: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wishes: dict[Place, dict[ChildKey, _Wish]] = {}

    def take(self, place: Place, child: ChildKey, digest: str) -> float:
        """Ask to write a child so that it is as `digest` says. Returns how many writes were left: below 1 it must not
        be written now, below 2 it is in dispute.
        """
        now, wishes = self._clock(), self._wishes.setdefault(place, {})
        wish = wishes.get(child)
        if wish is None or wish.digest != digest:
            wish = wishes[child] = _Wish(digest=digest, left=BURST, since=now)
        left = min(BURST, wish.left + (now - wish.since) / REFILL)
        wish.left, wish.since = left - 1 if left >= 1 else left, now
        return left

    def forget(self, place: Place) -> None:
        self._wishes.pop(place, None)
