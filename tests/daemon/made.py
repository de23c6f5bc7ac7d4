"""Values that several tests make."""

from __future__ import annotations

from putgate_daemon.entries import Entry
from putgate_daemon.journal.records import Failure, Stored
from putgate_daemon.settle import NANO


def entry(path: bytes = b"a", *, size: int = 5, mtime: float = 0, ctime: float = 0, seen: float = 1000) -> Entry:
    """Times in seconds since the epoch."""
    key = f"{size}-{mtime}-{ctime}"
    return Entry(path, size, int(mtime * NANO), int(ctime * NANO), key, int(seen * NANO))


def stored(change_key: str, *, racy_until: float = 0, size: int = 5, file_hash: str | None = None) -> Stored:
    return Stored(
        change_key=change_key,
        size=size,
        file_hash=file_hash,
        uploaded_ns=900 * NANO,
        racy_until_ns=int(racy_until * NANO),
    )


def failure(change_key: str, *, retry: float, code: str = "forbidden", attempts: int = 1) -> Failure:
    return Failure(
        change_key=change_key,
        code=code,
        detail="no",
        attempts=attempts,
        first_ns=900 * NANO,
        retry_ns=int(retry * NANO),
    )
