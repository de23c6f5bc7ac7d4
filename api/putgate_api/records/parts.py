"""The digests of a session's parts, raw beside its record: 32 bytes each, 48 where MD5s are signed too; immutable.

They are the only digests that are ever signed for the session's upload. The key is derived from the file hash,
and what is read back is checked against it, so no write, by whomever, can change what gets signed. The file hash says
nothing of MD5s, so of those the session's own record holds a mark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from putgate_api.records.keys import RecordKeys
from putgate_api.records.sessions import Session
from putgate_protocol.digests import FileHash, Md5, PartHash
from putgate_protocol.messages.base import MAX_PARTS_LISTED
from putgate_storage.store import ObjectHeaders, Store

_SHA256 = 32
_BOTH = 48
"""Bytes of a part's record: its SHA-256, and its MD5 behind it where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """Of every part, in order. `md5`: empty where the store checks SHA-256."""

    sha256: tuple[PartHash, ...]
    md5: tuple[Md5, ...] = ()

    def to_bytes(self) -> bytes:
        if not self.md5:
            return b"".join(self.sha256)
        return b"".join(part for both in zip(self.sha256, self.md5, strict=True) for part in both)


def md5_mark(md5: Sequence[Md5]) -> str:
    """Tells one list of MD5s from another; empty for none."""
    return hashlib.sha256(b"".join(md5)).hexdigest() if md5 else ""


class PartRecords:
    def __init__(self, store: Store, keys: RecordKeys) -> None:
        self._store = store
        self._keys = keys

    async def write(self, session: Session, digests: Digests) -> None:
        """Every writer writes the same bytes, since the session's record fixes both lists: no condition needed."""
        await self._store.put_small(
            self._keys.parts(session.owner, session.id),
            digests.to_bytes(),
            headers=ObjectHeaders(content_type="application/octet-stream"),
        )

    async def read(self, session: Session) -> Digests | None:
        """The digests, or None where they are missing or are not those of the session."""
        each = _BOTH if session.md5 else _SHA256
        found = await self._store.get_small(self._keys.parts(session.owner, session.id), MAX_PARTS_LISTED * _BOTH)
        if found is None or len(found.body) % each:
            return None
        records = [found.body[at : at + each] for at in range(0, len(found.body), each)]
        digests = Digests(
            sha256=tuple(PartHash(record[:_SHA256]) for record in records),
            md5=tuple(Md5(record[_SHA256:]) for record in records) if session.md5 else (),
        )
        if FileHash.of(digests.sha256) != session.file_hash or md5_mark(digests.md5) != session.md5:
            return None
        return digests

    async def remove(self, session: Session) -> None:
        await self._store.delete(self._keys.parts(session.owner, session.id))
