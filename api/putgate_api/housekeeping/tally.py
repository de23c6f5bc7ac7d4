"""What a round of housekeeping did, counted; and how much trouble with the store it bears."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable
from typing import Literal

import structlog

from putgate_api.uploads.content import NotWhole
from putgate_protocol.problems import Problem
from putgate_storage.errors import StoreError

log = structlog.get_logger("putgate.housekeeping")

What = Literal[
    "expired_uploads",
    "unopened_sessions",
    "done_sessions",
    "finished_uploads",
    "lone_parts",
    "stray_uploads",
    "probe_objects",
    "probe_uploads",
    "kept_stray_uploads",
    "unreadable_sessions",
    "put_off",
    "failed",
]

_WORDS: dict[What, str] = {
    "expired_uploads": "uploads whose session had expired, removed",
    "unopened_sessions": "expired sessions that never got an upload, removed",
    "done_sessions": "records of uploads that ended long ago, removed",
    "finished_uploads": "uploads found published by a process that died, noted as done",
    "lone_parts": "part hashes and lists of copies without a session, removed",
    "stray_uploads": "old uploads that no session knows, removed",
    "probe_objects": "left-over objects of a probe, removed",
    "probe_uploads": "left-over uploads of a probe, removed",
    "kept_stray_uploads": "old uploads that no session knows, left alone",
    "unreadable_sessions": "session records that this version cannot read, left alone",
    "put_off": "busy just now, left for the next round",
    "failed": "failed at the store, left for the next round",
}

_FAILURES_IN_A_ROW = 5
"""Then it is not one key's trouble but the store's, and the round ends."""


class Tally:
    def __init__(self) -> None:
        self.counts: Counter[What] = Counter()
        self._in_a_row = 0

    def add(self, what: What) -> None:
        self.counts[what] += 1

    async def attempt(self, key: str, work: Awaitable[None]) -> None:
        """Do one thing. Its failure does not end the round; many in a row are raised as what the last one was."""
        try:
            await work
        except Problem as problem:
            self.add("put_off")
            log.info("put off", key=key, code=problem.code)
        except StoreError as error:
            self.add("failed")
            log.warning("cannot clean up", key=key, reason=str(error), code=error.code)
            if isinstance(error, NotWhole):
                # The store answers; it is this file's trouble alone, in every round until it is uploaded again.
                return
            self._in_a_row += 1
            if self._in_a_row >= _FAILURES_IN_A_ROW:
                raise
            return
        self._in_a_row = 0

    @property
    def changed(self) -> dict[str, int]:
        """What there is to tell of."""
        return {what: self.counts[what] for what in _WORDS if self.counts[what]}

    def to_json(self) -> str:
        return json.dumps({what: self.counts[what] for what in _WORDS})

    def __str__(self) -> str:
        lines = [f"{self.counts[what]:>8}  {words}" for what, words in _WORDS.items() if self.counts[what]]
        return "\n".join(lines) or "nothing to clean up"
