"""What a check of a bucket found and how much it looked at, and what a checker is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

Kind = Literal[
    "size_differs",
    "parts_differ",
    "content_differs",
    "metadata_damaged",
    "record_missing",
    "session_unreadable",
    "hint_damaged",
]
"""Stable: people's scripts go by them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`key`: of the object. `detail`: for people."""

    kind: Kind
    key: str
    detail: str

    def to_json(self) -> str:
        return json.dumps({"finding": self.kind, "key": self.key, "detail": self.detail})

    def __str__(self) -> str:
        # Other tools' keys may hold anything, and a terminal obeys some of it.
        return f"{self.kind:<18}  {self.key if self.key.isprintable() else ascii(self.key)}: {self.detail}"


@dataclass(slots=True)
class Looked:
    """What was looked at. `changing`: files that were replaced each time while they were read. `stale_hints`: those
    whose file was removed or replaced; `newer_hints`: those of a newer version of Putgate; `repaired`: hints that were
    removed. Sizes in bytes.
    """

    files: int = 0
    bytes: int = 0
    rehashed: int = 0
    changing: int = 0
    foreign: int = 0
    sessions: int = 0
    hints: int = 0
    stale_hints: int = 0
    newer_hints: int = 0
    repaired: int = 0
    findings: int = 0

    def to_json(self) -> str:
        return json.dumps({"summary": asdict(self)})

    def __str__(self) -> str:
        read = f", {self.rehashed} read and hashed" if self.rehashed else ""
        changing = f", {self.changing} changed while they were read" if self.changing else ""
        return (
            f"{self.files} files of {self.bytes} bytes{read}{changing}; {self.foreign} objects of other tools; "
            f"{self.sessions} session records; {self._hints()}; findings: {self.findings}"
        )

    def _hints(self) -> str:
        stale = f", {self.stale_hints} of them without a file" if self.stale_hints else ""
        newer = f", {self.newer_hints} of a newer version of Putgate" if self.newer_hints else ""
        return f"{self.hints} hints{stale}{newer}{f', {self.repaired} removed' if self.repaired else ''}"


class Checker(Protocol):
    def check(self, looked: Looked) -> AsyncIterator[Finding]:
        """Look at every thing of one kind, counting in `looked`. Raises `StoreError`."""
        ...
