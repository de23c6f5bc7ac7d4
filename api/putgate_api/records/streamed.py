"""What is only known of a streamed file at its end: its hash and size, beside the object instead of in its metadata.

A store takes metadata when an upload begins, and rewriting it later means a copy, which drops checksums. The record is
written before the file is published and never changes what is stored: without it a file has no hash to be verified
by, and is otherwise whole. Its key is the upload's nonce, which the object carries, so it can be of no other object.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from putgate_api.records.keys import RecordKeys
from putgate_protocol.digests import FileHash
from putgate_storage.errors import ConditionFailed, Refused
from putgate_storage.store import IfAbsent, IfMatch, ObjectHeaders, Store

_VERSION = 1
_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What a stream turned out to be."""

    file_hash: FileHash
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A record as it stands in the bucket. `end`: None where this version cannot read it."""

    end: End | None
    etag: str


class StreamedRecords:
    def __init__(self, store: Store, keys: RecordKeys) -> None:
        self._store = store
        self._keys = keys

    async def write(self, nonce: str, end: End, *, over: Written | None = None) -> bool:
        """Write the first record, or one `over` what was found; False where something else is there by now."""
        tree = {"v": _VERSION, "file_hash": str(end.file_hash), "size": end.size}
        try:
            await self._store.put_small(
                self._keys.streamed(nonce),
                json.dumps(tree, separators=(",", ":")).encode(),
                headers=ObjectHeaders(content_type="application/json"),
                condition=IfAbsent() if over is None else IfMatch(etag=over.etag),
            )
        except ConditionFailed:
            return False
        return True

    async def find(self, nonce: str) -> Written | None:
        """What is there, readable or not. Raises `StoreError`."""
        found = await self._store.get_small(self._keys.streamed(nonce), _MAX_BYTES)
        return None if found is None else Written(end=_parsed(found.body), etag=found.etag)

    async def read(self, nonce: str) -> End | None:
        """None where there is none that this version can read. Raises `StoreError`."""
        if not _is_nonce(nonce):
            return None
        try:
            found = await self.find(nonce)
        except Refused:
            return None
        return None if found is None else found.end

    async def remove(self, nonce: str) -> None:
        if _is_nonce(nonce):
            await self._store.delete(self._keys.streamed(nonce))


def _is_nonce(text: str) -> bool:
    """Metadata may be another tool's work, and becomes part of a key here."""
    return len(text) == 32 and set(text) <= set("0123456789abcdef")


def _parsed(body: bytes) -> End | None:
    try:
        tree = json.loads(body)
        if tree["v"] != _VERSION:
            return None
        return End(file_hash=FileHash.parse(tree["file_hash"]), size=int(tree["size"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
