"""What a look at a file tells: the values that scanning makes and planning reads.

Paths are bytes, relative to their folder, `/`-separated, and never begin or end with a slash.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from putgate.upload.source import change_key


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file as lstat saw it. Times are nanoseconds since the epoch.

    `change_key` is the engine's (size, mtime, ctime, inode) of the file: equal keys mean unchanged content, but for
    files written within the grain of their timestamps. `seen_ns`: the clock just before the look.
    """

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    change_key: str
    seen_ns: int

    @classmethod
    def of(cls, path: bytes, stat: os.stat_result, seen_ns: int) -> Entry:
        return cls(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, change_key(stat), seen_ns)

    def last_change(self, now_ns: int) -> int | None:
        """The newer of mtime and ctime, or None when both lie in the future, where no clock of ours put them."""
        return max((t for t in (self.mtime_ns, self.ctime_ns) if t <= now_ns), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """A path that could not be looked at, and why."""

    path: bytes
    why: str


def shown(path: bytes) -> str:
    """A path for people and logs: bytes that are no UTF-8 and control characters escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
