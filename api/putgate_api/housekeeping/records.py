"""The folder of session records, walked: which are due, and which part hashes and lists of copies belong to none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog

from putgate_api.housekeeping.session import due, tend
from putgate_api.housekeeping.tally import Tally
from putgate_api.records.keys import RecordKeys
from putgate_api.records.listing import entries
from putgate_api.records.sessions import UNREADABLE, fits_its_place
from putgate_api.uploads.bucket import Bucket
from putgate_storage.errors import StoreError
from putgate_storage.store import Entry

log = structlog.get_logger("putgate.housekeeping")

_LONE_AGE = timedelta(hours=1)
"""Part hashes are written a moment before their session's record. Shorter, and a process that was suspended between
the two loses them; its client would only have to declare the file again."""

_REMEMBERED = 50_000
"""Records of which a process remembers when they are due, so that it need not read them in each round. Some MiB."""

_NEVER = datetime.max.replace(tzinfo=UTC)


class Memory:
    """When records are due that have not changed since, by key and ETag; of the last round only."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, datetime]] = {}
        self._this: dict[str, tuple[str, datetime]] = {}

    def begin(self) -> None:
        self._last, self._this = self._this, {}

    def note(self, key: str, etag: str, moment: datetime) -> None:
        if len(self._this) < _REMEMBERED:
            self._this[key] = (etag, moment)

    def due(self, entry: Entry) -> datetime | None:
        """None where it is not known."""
        etag, moment = self._last.get(entry.key, ("", _NEVER))
        return moment if etag == entry.etag else None


class SessionFolder:
    def __init__(self, bucket: Bucket, tally: Tally, memory: Memory) -> None:
        self._bucket = bucket
        self._tally = tally
        self._memory = memory
        self._keys = RecordKeys(bucket.prefix)

    async def tidy(self) -> None:
        """Raises `StoreError` where nothing can be listed."""
        self._memory.begin()
        last_record = ""
        async for entry in entries(self._bucket.store, self._keys.sessions):
            owner, _, file = entry.key.removeprefix(self._keys.sessions).partition("/")
            stem, _, kind = file.rpartition(".")
            if "/" in file or not owner or not stem:
                continue
            if kind == "json":
                last_record = f"{owner}/{stem}"
                if not self._is_early(entry):
                    await self._tally.attempt(entry.key, self._session(entry, owner, stem))
            elif kind == "copies" or (kind == "parts" and f"{owner}/{stem}" != last_record):
                # What is copied is listed before its session's record, so only a look tells.
                await self._tally.attempt(entry.key, self._lone_parts(entry, owner, stem))

    def _is_early(self, entry: Entry) -> bool:
        moment = self._memory.due(entry)
        if moment is None or moment <= self._bucket.now():
            return False
        self._memory.note(entry.key, entry.etag, moment)
        return True

    async def _session(self, entry: Entry, owner: str, session_id: str) -> None:
        bucket = self._bucket
        async with bucket.sessions.alone(owner, session_id):
            try:
                kept = await bucket.sessions.get(owner, session_id)
            except StoreError as error:
                if error.code not in UNREADABLE:
                    raise
                self._leave(entry, str(error))
                return
            if kept is None:
                return
            if not fits_its_place(kept.session, bucket.prefix, owner, session_id):
                self._leave(entry, "it does not fit its place")
                return
            moment = due(bucket, kept)
            if moment > bucket.now():
                self._memory.note(entry.key, kept.etag, moment)
            elif (done := await tend(bucket, kept)) is not None:
                self._tally.add(done)
                log.info("cleaned up", what=done, key=kept.session.key)

    def _leave(self, entry: Entry, why: str) -> None:
        self._memory.note(entry.key, entry.etag, _NEVER)
        self._tally.add("unreadable_sessions")
        log.warning("a session record is left alone", key=entry.key, reason=why)

    async def _lone_parts(self, entry: Entry, owner: str, session_id: str) -> None:
        """The folder's listing may be old by now: its answer counts for nothing before both have been looked at."""
        bucket, oldest = self._bucket, self._bucket.now() - _LONE_AGE
        if entry.modified > oldest:
            return
        async with bucket.sessions.alone(owner, session_id):
            if await bucket.store.head(self._keys.session(owner, session_id)) is not None:
                return
            head = await bucket.store.head(entry.key)
            if head is not None and head.modified <= oldest:
                await bucket.store.delete(entry.key)
                self._tally.add("lone_parts")
                log.info("cleaned up", what="lone_parts", key=entry.key)
