"""Session records: can each be read? One that cannot keeps its upload from being resumed, and from being removed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from putgate_api.fsck.finding import Finding, Looked
from putgate_api.records.keys import RecordKeys
from putgate_api.records.listing import entries
from putgate_api.records.sessions import UNREADABLE, Sessions, fits_its_place
from putgate_storage.errors import StoreError
from putgate_storage.store import Store


class SessionRecords:
    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._keys = RecordKeys(prefix)
        # It only reads, so nothing has to keep it apart from others.
        self._sessions = Sessions(store, self._keys, conditional=True)

    async def check(self, looked: Looked) -> AsyncIterator[Finding]:
        async for entry in entries(self._store, self._keys.sessions):
            if entry.key.endswith(".json"):
                looked.sessions += 1
                if (why := await self._unreadable(entry.key)) is not None:
                    yield Finding(kind="session_unreadable", key=entry.key, detail=why)

    async def _unreadable(self, key: str) -> str | None:
        owner, _, file = key.removeprefix(self._keys.sessions).partition("/")
        session_id = file.removesuffix(".json")
        try:
            kept = await self._sessions.get(owner, session_id)
        except StoreError as error:
            if error.code not in UNREADABLE:
                raise
            return str(error)
        if kept is None or fits_its_place(kept.session, self._keys.prefix, owner, session_id):
            return None
        return "it is not the record of a session of this place"
