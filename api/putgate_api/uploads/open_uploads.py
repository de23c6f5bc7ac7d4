"""How many uploads one owner may have under way.

The bucket is what counts, by a listing of the owner's records: every open upload has one `.parts`, which goes when it
ends. A count serves for a few seconds, less what was begun here since; calls on other replicas within that time are not
seen, so that the limit may be overshot a little. Only beginning an upload is refused, never going on with one.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from putgate_protocol.problems import problem
from putgate_storage.store import Store

MAX_PAGES = 20
"""Pages of 1,000 records read for one count. An owner with more records is judged by those: their names are hashes, so
what is left out is like what was read."""

MAX_OWNERS = 1_000
"""Owners whose count is remembered. Fewer, and each new upload costs a listing."""

FRESH = 5.0
"""Seconds for which a count serves. Longer, and replicas overshoot more; shorter, and a batch lists again and again."""

RETRY_AFTER = 5.0
"""Seconds. Uploads end when they are completed, which takes as long as sending their parts."""


@dataclass(slots=True)
class _Counted:
    left: int = 0
    until: float = 0.0
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
        async with counted.lock:
            if counted.left <= 0 or self._clock() >= counted.until:
                counted.left = self._most - await _open(store, folder, self._most)
                counted.until = self._clock() + FRESH
            if counted.left <= 0:
                detail = f"you have {self._most} uploads under way; complete or abort some of them first"
                raise problem("too_many_uploads", detail, retry_after=RETRY_AFTER)
            counted.left -= 1


async def _open(store: Store, folder: str, most: int) -> int:
    """How many uploads are open below `folder`; it stops counting at `most`."""
    found, token = 0, None
    for _ in range(MAX_PAGES):
        page = await store.list(folder, token=token)
        found += sum(1 for entry in page.entries if entry.key.endswith(".parts"))
        token = page.token
        if token is None or found >= most:
            break
    return found
