"""Store uploads that no session knows, and what a probe that was killed has left.

A listing of open uploads does not show who made them, so another tool's may be among them. What is dropped here is
older than the age at which the store's clean-up rule, which is Putgate's for this prefix, drops any upload: that is
beyond every session's life, and nobody loses what the rule would have left them. Where that rule does not stand nothing
is dropped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from putgate_api.housekeeping.tally import Tally
from putgate_api.records.keys import RecordKeys
from putgate_api.records.listing import entries
from putgate_api.records.sessions import UNREADABLE, key_mark
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.orphans import abort_until_gone
from putgate_protocol.names import Name
from putgate_storage.errors import StoreError
from putgate_storage.open_uploads import open_uploads
from putgate_storage.probe.run import FOLDER
from putgate_storage.store import ListsUploads, OpenUpload, StoreUpload

log = structlog.get_logger("putgate.housekeeping")

_ROUNDING = timedelta(seconds=2)
"""Stores write whole seconds."""

_PROBE_AGE = timedelta(hours=1)
"""A probe takes seconds. What is older is nobody's any more; what is younger may be of one that runs."""

_BATCH = 10_000
"""Strays looked at together, for which all sessions are listed once. Smaller, and a bucket with many of them has its
sessions listed again and again; larger, and it is kept in memory: here some MiB."""


async def drop_strays(bucket: Bucket, tally: Tally, *, may_drop: Callable[[], Awaitable[bool]]) -> None:
    """`may_drop`: asked once, if there are any; without it they are only counted. Raises `StoreError` where nothing can
    be listed.
    """
    store = bucket.store
    if not isinstance(store, ListsUploads):
        return
    oldest = bucket.now() - bucket.limits.abandon_after - _ROUNDING
    allowed: bool | None = None
    batch: list[OpenUpload] = []
    async for found in open_uploads(store, bucket.prefix):
        if not _may_be_ours(bucket, found.upload) or not _is_older(found, oldest):
            continue
        allowed = await may_drop() if allowed is None else allowed
        if not allowed:
            tally.add("kept_stray_uploads")
            continue
        batch.append(found)
        if len(batch) == _BATCH:
            await _drop(bucket, tally, batch)
            batch = []
    if batch:
        await _drop(bucket, tally, batch)


async def clear_probe(bucket: Bucket, tally: Tally) -> None:
    """Raises `StoreError` where nothing can be listed."""
    folder, oldest = f"{bucket.prefix}{FOLDER}", bucket.now() - _PROBE_AGE
    async for entry in entries(bucket.store, folder):
        if entry.modified < oldest:
            await tally.attempt(entry.key, _probe_object(bucket, tally, entry.key))
    if isinstance(bucket.store, ListsUploads):
        async for found in open_uploads(bucket.store, folder):
            if _is_older(found, oldest):
                await tally.attempt(found.upload.key, _probe_upload(bucket, tally, found.upload))


def _may_be_ours(bucket: Bucket, upload: StoreUpload) -> bool:
    """Whether its key is one that Putgate gives to a file: none of its records, nor of the store's own."""
    return Name.from_key(upload.key, bucket.prefix) is not None and not bucket.store.reserves(upload.key)


def _is_older(found: OpenUpload, moment: datetime) -> bool:
    return found.initiated is not None and found.initiated < moment


async def _drop(bucket: Bucket, tally: Tally, batch: list[OpenUpload]) -> None:
    """The sessions are read after the uploads were listed: one that has come to name one meanwhile spares it, and one
    that is being created may be about to. One that begins later can only name an upload that is not old.
    """
    named = await _named(bucket, tally, batch)
    for found in batch:
        await tally.attempt(found.upload.key, _stray(bucket, tally, found, named))


async def _stray(bucket: Bucket, tally: Tally, found: OpenUpload, named: _Named) -> None:
    upload = found.upload
    if upload in named.uploads or upload.key in named.creating:
        return
    if key_mark(upload.key) in named.unknown or await _may_be_published(bucket, found):
        tally.add("kept_stray_uploads")
        return
    await abort_until_gone(bucket.store, upload)
    tally.add("stray_uploads")
    log.info("cleaned up", what="stray_uploads", key=upload.key)


@dataclass(frozen=True, slots=True)
class _Named:
    """What sessions say of a batch. `creating`: keys of sessions that may be about to name an upload. `unknown`: marks
    of keys of which a record cannot be read, which may name any.
    """

    uploads: set[StoreUpload] = field(default_factory=set)
    creating: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)


async def _named(bucket: Bucket, tally: Tally, batch: list[OpenUpload]) -> _Named:
    """Lists all sessions once, and reads those of the batch's keys. Raises `StoreError` where they cannot be listed."""
    named, folder = _Named(), RecordKeys(bucket.prefix).sessions
    uploads = {found.upload for found in batch}
    marks = {key_mark(upload.key) for upload in uploads}

    async def read(mark: str, owner: str, session_id: str) -> None:
        try:
            kept = await bucket.sessions.get(owner, session_id)
        except StoreError as error:
            named.unknown.add(mark)
            if error.code not in UNREADABLE:
                raise
            return
        if kept is None:
            return
        session = kept.session
        if session.state == "creating":
            named.creating.add(session.key)
        elif session.store_upload_id is not None:
            named.uploads.update(uploads & {StoreUpload(key=session.key, upload_id=session.store_upload_id)})

    async for entry in entries(bucket.store, folder):
        owner, _, file = entry.key.removeprefix(folder).partition("/")
        mark = file.partition("-")[0]
        if mark in marks and file.endswith(".json"):
            await tally.attempt(entry.key, read(mark, owner, file.removesuffix(".json")))
    return named


async def _may_be_published(bucket: Bucket, found: OpenUpload) -> bool:
    """Whether the key holds what this upload may have become: aborting it could then destroy that on some stores. Its
    nonce is not known, so only what is older than the upload certainly is something else.
    """
    head = await bucket.store.head(found.upload.key)
    return head is not None and found.initiated is not None and head.modified >= found.initiated - _ROUNDING


async def _probe_object(bucket: Bucket, tally: Tally, key: str) -> None:
    await bucket.store.delete(key)
    tally.add("probe_objects")


async def _probe_upload(bucket: Bucket, tally: Tally, upload: StoreUpload) -> None:
    """Whatever the store does to the object of a completed one: it is throw-away as well."""
    await abort_until_gone(bucket.store, upload)
    tally.add("probe_uploads")
