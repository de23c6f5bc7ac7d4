"""What the journal knows of a file, as values. Times are ns since the epoch."""

from __future__ import annotations

from dataclasses import dataclass

NEVER = 2**63 - 1
"""A retry that no clock reaches: only a change of the file brings it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file that the engine reported as stored. `racy_until_ns`: 0, or when it has to be looked at again."""

    change_key: str
    size: int
    file_hash: str | None
    uploaded_ns: int
    racy_until_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A file that could not be stored, with its next try."""

    change_key: str
    code: str
    detail: str
    attempts: int
    first_ns: int
    retry_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """What is known of some paths of a folder."""

    stored: dict[bytes, Stored]
    failures: dict[bytes, Failure]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRecord:
    """One finished scan of a folder."""

    started_ns: int
    finished_ns: int
    files: int
    size: int
    symlinks: int
    specials: int
    unwanted: int
    blocked: int
    queued: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RootStatus:
    """What `status` tells of a folder. `failures`: the first of them."""

    path: bytes
    destination: str
    state: str
    detail: str
    files: int
    size: int
    failed: int
    failures: dict[bytes, Failure]
    last_scan: ScanRecord | None
