"""Files: does each have the size, the parts and, read again, the bytes that its metadata says?

Other tools' objects carry no metadata of ours; they are counted, and nothing is said of them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from putgate_api.fsck.content import Reader, file_hash
from putgate_api.fsck.finding import Finding, Looked
from putgate_api.fsck.together import together
from putgate_api.records.keys import RecordKeys
from putgate_api.records.listing import entries
from putgate_api.records.streamed import StreamedRecords
from putgate_api.uploads.content import PREFIX, Content
from putgate_api.uploads.streamed import streamed_head, streamed_nonce
from putgate_protocol.names import RESERVED_SEGMENT
from putgate_protocol.parts import PartPlan
from putgate_storage.store import Head, Store

_HEADS = 16
"""Files looked at at once. Fewer, and a far store idles; more, and those who upload feel it."""

_READS = 4
"""Files read at once; each is one connection that is always busy."""

_BATCH = 1000
"""Files whose results are waited for together: as many as a page of a listing."""

_LOOKS = 3
"""How often a file that was replaced while it was read is begun again."""

_READINGS = 2
"""A file whose bytes differ is read again: it may have been the way here that changed them."""

_ETAG = re.compile(r"[0-9a-f]{32}(?:-(\d{1,5}))?", re.IGNORECASE)
_RESERVED = RESERVED_SEGMENT.decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a HEAD says of a file. `content`: what its metadata says, where it can be read."""

    content: Content | None
    findings: tuple[Finding, ...]


def judge(key: str, head: Head) -> Judged | None:
    """None for an object of another tool. Pure."""
    if not any(name.startswith(PREFIX) for name in head.metadata):
        return None
    content, plan = _declared(head)
    if streamed_nonce(head) is not None and f"{PREFIX}hash" not in head.metadata:
        detail = "it was streamed, and the record of its hash is gone or cannot be read; it cannot be verified"
        return Judged(content=None, findings=(Finding(kind="record_missing", key=key, detail=detail),))
    if content is None or plan is None:
        detail = "its metadata is Putgate's and cannot be read; it counts as an object of another tool"
        return Judged(content=None, findings=(Finding(kind="metadata_damaged", key=key, detail=detail),))
    findings = []
    if content.size != head.size:
        detail = f"{head.size} bytes are stored, {content.size} were uploaded"
        findings.append(Finding(kind="size_differs", key=key, detail=detail))
    if (stored := _part_count(head.etag)) is not None and not _fits(stored, plan.count):
        detail = f"its ETag is one of {_parts(stored)}, {_parts(plan.count)} were uploaded"
        findings.append(Finding(kind="parts_differ", key=key, detail=detail))
    return Judged(content=content, findings=tuple(findings))


def _declared(head: Head) -> tuple[Content | None, PartPlan | None]:
    try:
        size = int(head.metadata[f"{PREFIX}size"])
        content = Content.of(replace(head, size=size))
        return content, None if content is None else PartPlan(size=size, part_size=content.part_size)
    except (KeyError, ValueError):
        return None, None


def _part_count(etag: str) -> int | None:
    """How many parts an ETag speaks of, 0 for an object of one PUT; None where it says nothing."""
    found = _ETAG.fullmatch(etag)
    return None if found is None else int(found[1] or 0)


def _fits(stored: int, count: int) -> bool:
    """One PUT is how a file of one part may be stored, and how one without any is."""
    return stored == count or (stored == 0 and count == 1)


def _parts(count: int) -> str:
    return {0: "no parts", 1: "1 part"}.get(count, f"{count} parts")


class Files:
    """`reader`: reads and hashes every file as well, which costs as much traffic as downloading it."""

    def __init__(self, store: Store, prefix: str, reader: Reader | None) -> None:
        self._store = store
        self._prefix = prefix
        self._streamed = StreamedRecords(store, RecordKeys(prefix))
        self._reader = reader
        self._slots = asyncio.Semaphore(_READS if reader else _HEADS)

    async def check(self, looked: Looked) -> AsyncIterator[Finding]:
        keys: list[str] = []
        async for entry in entries(self._store, self._prefix):
            if _RESERVED not in entry.key.split("/"):
                keys.append(entry.key)
            if len(keys) == _BATCH:
                for finding in await self._all(keys, looked):
                    yield finding
                keys = []
        for finding in await self._all(keys, looked):
            yield finding

    async def _all(self, keys: list[str], looked: Looked) -> list[Finding]:
        return [finding for each in await together(self._one(key, looked) for key in keys) for finding in each]

    async def _one(self, key: str, looked: Looked) -> tuple[Finding, ...]:
        async with self._slots:
            for _ in range(_LOOKS):
                head = await streamed_head(self._streamed, await self._store.head(key))
                if head is None:
                    return ()
                judged = judge(key, head)
                if judged is None:
                    looked.foreign += 1
                    return ()
                findings = await self._read(key, head, judged, looked)
                if findings is not None:
                    looked.files += 1
                    looked.bytes += head.size
                    return findings
        looked.changing += 1
        return ()

    async def _read(self, key: str, head: Head, judged: Judged, looked: Looked) -> tuple[Finding, ...] | None:
        """The findings with those of its bytes; None where it is another file by now."""
        content = judged.content
        if self._reader is None or content is None or content.size != head.size:
            return judged.findings
        plan = PartPlan(size=content.size, part_size=content.part_size)
        for _ in range(_READINGS):
            found = await file_hash(self._reader, key, head.etag, plan)
            if found is None:
                return None
            if found == content.file_hash:
                break
        looked.rehashed += 1
        if found == content.file_hash:
            return judged.findings
        detail = f"its bytes make the file hash {found}, {content.file_hash} was uploaded"
        return (*judged.findings, Finding(kind="content_differs", key=key, detail=detail))
