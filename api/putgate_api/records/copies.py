"""Which parts of a session's upload are copied inside the store, from where, and what each must become.

Kept beside the session's record for as long as the session lives. It is bound to the nonce of one upload: what
another attempt wrote under the same key is as if it were not there, since its parts may be others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from putgate_api.records.keys import RecordKeys
from putgate_api.records.sessions import Session
from putgate_storage.errors import Refused
from putgate_storage.store import ObjectHeaders, Store

_MAX_BYTES = 2 * 1024 * 1024
"""Ten thousand ETags take less than half of it."""

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """`source`: the key of `owner`, while its ETag is `source_etag`. `etags`: what each part to be copied
    must have, by its number. `whole`: the source is one part, and is copied as a whole. Otherwise a part comes from its
    own place in the source.
    """

    source: str
    source_etag: str
    owner: str
    etags: Mapping[int, str]
    whole: bool


class CopyRecords:
    def __init__(self, store: Store, keys: RecordKeys) -> None:
        self._store = store
        self._keys = keys

    async def write(self, session: Session, copies: Copies) -> None:
        """For the one who holds the session in state `creating`, before there is anything to copy into."""
        tree = {
            "v": _VERSION,
            "nonce": session.nonce,
            "source": copies.source,
            "source_etag": copies.source_etag,
            "owner": copies.owner,
            "etags": copies.etags,
            "whole": copies.whole,
        }
        await self._store.put_small(
            self._keys.copies(session.owner, session.id),
            json.dumps(tree, separators=(",", ":")).encode(),
            headers=ObjectHeaders(content_type="application/json"),
        )

    async def read(self, session: Session) -> Copies | None:
        """None where there is no record of this very upload that can be read. Raises `StoreError`."""
        try:
            found = await self._store.get_small(self._keys.copies(session.owner, session.id), _MAX_BYTES)
        except Refused:
            return None
        return None if found is None else _from_json(found.body, session.nonce)

    async def remove(self, session: Session) -> None:
        await self._store.delete(self._keys.copies(session.owner, session.id))


def _from_json(body: bytes, nonce: str) -> Copies | None:
    try:
        tree = json.loads(body)
        if (tree["v"], tree["nonce"]) != (_VERSION, nonce):
            return None
        return Copies(
            source=str(tree["source"]),
            source_etag=str(tree["source_etag"]),
            owner=str(tree["owner"]),
            etags={int(number): str(etag) for number, etag in tree["etags"].items()},
            whole=tree["whole"] is True,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
