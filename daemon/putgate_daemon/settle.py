"""When is a file at rest? When nothing about it has changed for a while, and longer for larger files.

Pure: the clock is an argument. A file taken too early is not stored mixed (the engine notices), it is only sent twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from putgate_daemon.entries import Entry

SMALL = 1024 * 1024
"""Up to this size a folder's own quiet time holds: whoever writes a megabyte seldom pauses inside it."""

LARGE = 1024**3
"""From this size on the quiet time no longer grows."""

LARGE_FACTOR = 30
"""How much longer a large file must be quiet (2 s become 60 s): its writer stalls on disks, networks and people."""

NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a file before: its change key, and since when it has that, in ns since the epoch."""

    change_key: str
    since_ns: int


def quiet_time(size: int, settle: timedelta) -> int:
    """How long, in ns, a file of `size` bytes must be quiet; `settle` is for a small one."""
    grown = math.log(min(max(size, SMALL), LARGE) / SMALL) / math.log(LARGE / SMALL)
    return int(settle.total_seconds() * NANO * LARGE_FACTOR**grown)


def look(entry: Entry, seen: Seen | None) -> Seen:
    """What is now known of a file's quiet, from this look and the one before.

    A first look believes the file's own times, so that old files need no wait. When they lie in the future (another
    clock set them), and whenever the file changed under our eyes, quiet begins now.
    """
    if seen is not None and seen.change_key == entry.change_key:
        return seen
    own = entry.last_change(entry.seen_ns)
    since = entry.seen_ns if own is None or seen is not None else own
    return Seen(entry.change_key, since)


def at_rest_from(entry: Entry, seen: Seen, settle: timedelta) -> int:
    """The moment, in ns since the epoch, from which the file counts as at rest if it stays as it is."""
    return seen.since_ns + quiet_time(entry.size, settle)
