"""The part hashes of a session, raw beside its record: 32 bytes each, immutable.

They are the only digests that are ever signed for the session's upload. The key is derived from the file hash,
and what is read back is checked against it, so no write, by whomever, can change what gets signed.
"""

from __future__ import annotations

from putgate_api.records.keys import RecordKeys
from putgate_api.records.sessions import Session
from putgate_protocol.digests import FileHash, PartHash
from putgate_protocol.messages.base import MAX_PARTS_LISTED
from putgate_storage.store import ObjectHeaders, Store

_BYTES = 32


class PartRecords:
    def __init__(self, store: Store, keys: RecordKeys) -> None:
        self._store = store
        self._keys = keys

    async def write(self, session: Session, hashes: tuple[PartHash, ...]) -> None:
        """Every writer writes the same bytes, since the session's id fixes the file hash: no condition needed."""
        await self._store.put_small(
            self._keys.parts(session.owner, session.id),
            b"".join(hashes),
            headers=ObjectHeaders(content_type="application/octet-stream"),
        )

    async def read(self, session: Session) -> tuple[PartHash, ...] | None:
        """The part hashes in order, or None where they are missing or do not make the session's file hash."""
        found = await self._store.get_small(self._keys.parts(session.owner, session.id), MAX_PARTS_LISTED * _BYTES)
        if found is None or len(found.body) % _BYTES:
            return None
        if FileHash.of((found.body,)) != session.file_hash:
            return None
        return tuple(PartHash(found.body[at : at + _BYTES]) for at in range(0, len(found.body), _BYTES))

    async def remove(self, session: Session) -> None:
        await self._store.delete(self._keys.parts(session.owner, session.id))
