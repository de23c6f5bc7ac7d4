"""Parts of an open upload are copied inside the store, some with each call; what each has become is looked at.

A copy is believed only when the store's listing shows the ETag that the part must have. One that is refused, or is
not what it should be, ends all copying for its upload: nothing of it may ever be completed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog

from putgate_api.auth.caller import Caller
from putgate_api.records.copies import Copies
from putgate_api.records.parts import Digests
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.session import held_parts
from putgate_api.uploads.sources import may_have
from putgate_protocol.messages.base import HeldPart
from putgate_protocol.names import Name
from putgate_protocol.parts import PartPlan
from putgate_storage.errors import StoreError
from putgate_storage.store import CopiesParts, StoreUpload

log = structlog.get_logger("putgate.api")

PER_CALL = 64
"""Parts that one call copies: more, and callers and what lies between would lose patience."""

_AT_ONCE = 8
"""Copies of one call at once. Each is a read and a write of a whole part inside the store."""

_CALL_SECONDS = 20.0
"""After this time a call begins no further copy; parts of huge files are large."""

RETRY_AFTER = 0.2
"""Seconds. Only calls copy, so there is nothing to wait for but other callers' turns."""


class CopyFailed(Exception):
    """The store did not copy what it was asked to; the upload must not be completed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """An upload that gets copies, for `caller`. `digests`: of all its parts."""

    caller: Caller
    upload: StoreUpload
    plan: PartPlan
    digests: Digests
    copies: Copies


def outstanding(copies: Copies, held: Sequence[HeldPart]) -> list[int]:
    """Numbers of the parts that are still to be copied."""
    return sorted(copies.etags.keys() - {part.part_number for part in held})


async def copy_some(bucket: Bucket, filling: Filling, held: Sequence[HeldPart]) -> tuple[HeldPart, ...]:
    """Copy the next parts, and answer what the store then holds. Raises `CopyFailed`, `StoreError`."""
    try:
        return await _copy_and_look(bucket, filling, outstanding(filling.copies, held)[:PER_CALL])
    except CopyFailed as error:
        what = "content could not be copied inside the store; it will be sent"
        log.warning(what, key=filling.upload.key, reason=str(error))
        raise


async def _copy_and_look(bucket: Bucket, filling: Filling, wanted: Sequence[int]) -> tuple[HeldPart, ...]:
    _check_right(bucket, filling)
    try:
        copied = await _copy(bucket, filling, wanted)
    except BaseExceptionGroup as errors:
        # One failure ends the others; what is more than a failed copy is what has to be told.
        raise (errors.split(CopyFailed)[1] or errors).exceptions[0] from None
    stored = await bucket.store.list_parts(filling.upload)
    holds = held_parts(filling.plan, stored or (), filling.copies, filling.digests.md5)
    if lacking := copied - {part.part_number for part in holds}:
        raise CopyFailed(f"part {min(lacking)} is not there, or is not what was copied")
    return holds


def _check_right(bucket: Bucket, filling: Filling) -> None:
    """Rights may have been taken away since the source was found: every call decides anew."""
    name = Name.from_key(filling.copies.source, bucket.prefix)
    if name is None or not may_have(bucket, filling.caller, filling.copies.owner, name):
        raise CopyFailed("the caller may not have the source any more")


async def _copy(bucket: Bucket, filling: Filling, wanted: Sequence[int]) -> set[int]:
    """The numbers of those copied: all, or as many as time allows, and at least one."""
    waiting = iter(wanted)
    copied: set[int] = set()
    loop = asyncio.get_running_loop()
    end = loop.time() + _CALL_SECONDS

    async def worker(numbers: Iterator[int]) -> None:
        for number in numbers:
            await _copy_one(bucket, filling, number)
            copied.add(number)
            if loop.time() >= end:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(min(_AT_ONCE, len(wanted))):
            group.create_task(worker(waiting))
    return copied


async def _copy_one(bucket: Bucket, filling: Filling, number: int) -> None:
    copies, part = filling.copies, filling.plan.part(number)
    if not isinstance(bucket.store, CopiesParts):
        raise CopyFailed("the store copies no parts")
    try:
        copied = await bucket.store.copy_part(
            filling.upload,
            number,
            copies.source,
            span=None if copies.whole else (part.offset, part.offset + part.length - 1),
            source_etag=copies.source_etag,
        )
    except StoreError as error:
        raise CopyFailed(str(error)) from error
    if copied.etag != copies.etags[number] or copied.sha256 not in (None, filling.digests.sha256[number - 1]):
        raise CopyFailed(f"part {number} has become something else")
