"""How many uploads one owner may have under way.

The bucket is what counts, by a listing of the owner's records: every open upload has one `.parts`, which goes when it
ends. A count serves for a few seconds, less what was begun here since, and whoever is refused meanwhile is refused by
it; calls on other replicas within that time are not seen, so that the limit may be overshot a little. Only beginning
an upload is refused, never going on with one.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from putgate_api.records.sessions import key_mark
from putgate_protocol.problems import problem
from putgate_storage.store import Store

MAX_PAGES = 20
"""Pages of 1,000 records read for one count; of an owner with more records the rest is estimated from those. More, and
a count takes longer; fewer, and it is less exact."""

MAX_OWNERS = 1_000
"""Owners whose count is remembered. Fewer, and each new upload costs a listing."""

FRESH = 5.0
"""Seconds for which a count serves. Longer, and replicas overshoot more, and an owner who has ended uploads waits
longer; shorter, and it is listed again and again."""

KEPT = 30.0
"""Seconds for which a count serves on beyond that while the next one is made. Longer, and it says nothing of the
present; shorter, and calls wait for a slow listing, until nobody else finds room."""

_LEAST_WAIT = 1.0
"""Seconds, of who is refused just before the next count."""

_MARK = len(key_mark(""))
"""Hex digits of a hash of the file's key, with which a record's name begins."""


@dataclass(slots=True)
class _Counted:
    """`left`: how many may be begun still, by a count that serves until `until`. `begun`: here, since it was made."""

    left: int = 0
    begun: int = 0
    until: float = -math.inf
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class OpenUploads:
    """Of all owners; one per process."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._owners: OrderedDict[str, _Counted] = OrderedDict()

    async def admit(self, store: Store, folder: str, owner: str) -> None:
        """Let the owner, whose records are below `folder`, begin one upload.

        Raises `too_many_uploads`, `StoreError`.
        """
        counted = self._owners.setdefault(owner, _Counted())
        self._owners.move_to_end(owner)
        if len(self._owners) > MAX_OWNERS:
            self._owners.popitem(last=False)
        if self._clock() >= counted.until + (KEPT if counted.lock.locked() else 0):
            async with counted.lock:
                if self._clock() >= counted.until:
                    await self._count(store, folder, counted)
        if counted.left <= 0:
            detail = f"you have {self._most} uploads under way; complete or abort some of them first"
            wait = max(_LEAST_WAIT, counted.until - self._clock())
            raise problem("too_many_uploads", detail, retry_after=round(wait, 1))
        counted.left -= 1
        counted.begun += 1

    async def _count(self, store: Store, folder: str, counted: _Counted) -> None:
        counted.begun = 0
        found = await _open(store, folder, self._most)
        # The listing may have been past those that were begun while it was read.
        counted.left = self._most - found - counted.begun
        counted.until = self._clock() + FRESH


async def _open(store: Store, folder: str, most: int) -> int:
    """How many uploads are open below `folder`; it stops counting at `most`."""
    marks: list[str] = []
    last, token = "", None
    for _ in range(MAX_PAGES):
        page = await store.list(folder, token=token)
        names = [entry.key.removeprefix(folder) for entry in page.entries]
        marks += [name[:_MARK] for name in names if name.endswith(".parts")]
        last = names[-1] if names else last
        token = page.token
        if token is None or len(marks) >= most:
            return len(marks)
    # The names' marks are hashes, so as many files lie in any part of their range as in another of that size. Files,
    # and not uploads: those of one file all have one mark.
    return len(marks) + int(len(set(marks)) * (1 / _share(last) - 1))


def _share(name: str) -> float:
    """Which share of all marks is not behind the one of `name`; all of them, where it is none."""
    try:
        return (int(name[:_MARK], 16) + 1) / 16.0**_MARK
    except ValueError:
        return 1.0
