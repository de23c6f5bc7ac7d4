"""Index records: does each lead to the content that it names? A hint that does not is of no use and does no harm.

A file that is removed or overwritten leaves its hint behind, so one that leads nowhere is counted and is no finding;
one that nobody can read, or that contradicts the very file it was written for, is. Removing any of them loses nothing:
whoever uploads such content sends it once more. Files and sessions are never touched, and neither is what a newer
version of Putgate has written, which works beside this one while it is rolled out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Literal

from putgate_api.fsck.finding import Finding, Looked
from putgate_api.fsck.together import together
from putgate_api.records.index import BUCKET, Indexed, IndexRecords
from putgate_api.records.keys import RecordKeys
from putgate_api.records.listing import entries
from putgate_api.records.streamed import StreamedRecords
from putgate_api.uploads.content import Content
from putgate_api.uploads.streamed import streamed_head
from putgate_protocol.digests import FileHash
from putgate_protocol.problems import NameProblem
from putgate_storage.store import Entry, Head, Store

_AT_ONCE = 16
"""Hints looked at at once; each is a GET and a HEAD, and of a streamed file another GET."""

_BATCH = 1000

_PLACE = re.compile(rf"({BUCKET}|[0-9a-f]{{64}})/([0-9a-f]{{2}})/(\2[0-9a-f]{{62}})\.json")

Verdict = Literal["sound", "stale", "newer"] | str
"""Or what is wrong with it."""


def judge(scope: str, indexed: Indexed, head: Head | None) -> Verdict:
    """`head`: of the file that it names, with what `streamed_head` adds. Pure."""
    if scope not in (BUCKET, indexed.owner):
        return "it is in the scope of another owner than its file's"
    content = None if head is None else Content.of(head)
    if content is None or content.nonce != indexed.nonce:
        return "stale"
    told = (indexed.file_hash, indexed.size, indexed.part_size, indexed.owner)
    if told != (content.file_hash, content.size, content.part_size, content.owner):
        return "it says something else of its file than the file's own metadata"
    return "sound"


class Hints:
    """`repair`: removes what is wrong or leads nowhere."""

    def __init__(self, store: Store, prefix: str, *, repair: bool) -> None:
        self._store = store
        self._keys = RecordKeys(prefix)
        self._records = IndexRecords(store, self._keys)
        self._streamed = StreamedRecords(store, self._keys)
        self._repair = repair
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def check(self, looked: Looked) -> AsyncIterator[Finding]:
        batch: list[Entry] = []
        async for entry in entries(self._store, self._keys.indexes):
            batch.append(entry)
            if len(batch) == _BATCH:
                for finding in await self._all(batch, looked):
                    yield finding
                batch = []
        for finding in await self._all(batch, looked):
            yield finding

    async def _all(self, batch: list[Entry], looked: Looked) -> list[Finding]:
        found = await together(self._one(entry, looked) for entry in batch)
        return [finding for finding in found if finding is not None]

    async def _one(self, entry: Entry, looked: Looked) -> Finding | None:
        async with self._slots:
            looked.hints += 1
            place = _PLACE.fullmatch(entry.key.removeprefix(self._keys.indexes))
            if place is None:
                return Finding(kind="hint_damaged", key=entry.key, detail="it is not in the place of a hint")
            verdict = await self._verdict(place[1], FileHash.parse(place[3]))
            if verdict in ("sound", "newer"):
                looked.newer_hints += verdict == "newer"
                return None
            removed = self._repair and await self._remove(entry)
            looked.repaired += removed
            if verdict == "stale":
                looked.stale_hints += not removed
                return None
            detail = f"{verdict}; it is removed" if removed else f"{verdict}; --repair removes it"
            return Finding(kind="hint_damaged", key=entry.key, detail=detail)

    async def _verdict(self, scope: str, file_hash: FileHash) -> Verdict:
        indexed = await self._records.read(scope, file_hash)
        if indexed is None:
            if await self._records.is_newer(scope, file_hash):
                return "newer"
            return "it is no hint that this version of Putgate can read"
        try:
            named = indexed.name.key(self._keys.prefix)
        except NameProblem:
            return "it names no file"
        return judge(scope, indexed, await streamed_head(self._streamed, await self._store.head(named)))

    async def _remove(self, entry: Entry) -> bool:
        """Not what has been written anew since it was listed."""
        head = await self._store.head(entry.key)
        if head is None or head.etag != entry.etag:
            return False
        await self._store.delete(entry.key)
        return True
