"""Store uploads that no session knows, and what a probe that was killed has left.

A listing of open uploads does not show who made them, so another tool's may be among them. What is dropped here is
older than the age at which the store's clean-up rule, which is Putgate's for this prefix, drops any upload: that is
beyond every session's life, and nobody loses what the rule would have left them. Where Putgate may not set that rule
nothing is dropped.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from putgate_api.housekeeping.tally import Tally
from putgate_api.records.listing import entries
from putgate_api.records.sessions import UNREADABLE, Session
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.orphans import abort_until_gone
from putgate_protocol.names import Name
from putgate_storage.errors import StoreError
from putgate_storage.probe.run import FOLDER
from putgate_storage.store import ListsUploads, OpenUpload, StoreUpload

log = structlog.get_logger("putgate.housekeeping")

_ROUNDING = timedelta(seconds=2)
"""Stores write whole seconds."""

_PROBE_AGE = timedelta(hours=1)
"""A probe takes seconds. What is older is nobody's any more; what is younger may be of one that runs."""


async def drop_strays(bucket: Bucket, tally: Tally, *, may_drop: bool) -> None:
    """`may_drop`: without it they are only counted. Raises `StoreError` where nothing can be listed."""
    if not isinstance(bucket.store, ListsUploads):
        return
    oldest = bucket.now() - bucket.limits.abandon_after
    for found in await bucket.store.list_uploads(bucket.prefix):
        if _may_be_ours(bucket, found.upload) and _is_older(found, oldest - _ROUNDING):
            await tally.attempt(found.upload.key, _stray(bucket, tally, found, may_drop=may_drop))


async def clear_probe(bucket: Bucket, tally: Tally) -> None:
    """Raises `StoreError` where nothing can be listed."""
    folder, oldest = f"{bucket.prefix}{FOLDER}", bucket.now() - _PROBE_AGE
    async for entry in entries(bucket.store, folder):
        if entry.modified < oldest:
            await tally.attempt(entry.key, _probe_object(bucket, tally, entry.key))
    if isinstance(bucket.store, ListsUploads):
        for found in await bucket.store.list_uploads(folder):
            if _is_older(found, oldest):
                await tally.attempt(found.upload.key, _probe_upload(bucket, tally, found.upload))


def _may_be_ours(bucket: Bucket, upload: StoreUpload) -> bool:
    """Whether its key is one that Putgate gives to a file: none of its records, nor of the store's own."""
    return Name.from_key(upload.key, bucket.prefix) is not None and not bucket.store.reserves(upload.key)


def _is_older(found: OpenUpload, moment: datetime) -> bool:
    return found.initiated is not None and found.initiated < moment


async def _stray(bucket: Bucket, tally: Tally, found: OpenUpload, *, may_drop: bool) -> None:
    """The sessions are read after the upload was listed: one that has come to name it meanwhile spares it, and one
    that is being created may be about to.
    """
    upload = found.upload
    sessions = await _sessions_of(bucket, upload.key)
    if sessions is not None and any(
        each.state == "creating" or each.store_upload_id == upload.upload_id for each in sessions
    ):
        return
    if not may_drop or sessions is None or await _may_be_published(bucket, found):
        tally.add("kept_stray_uploads")
        return
    await abort_until_gone(bucket.store, upload)
    tally.add("stray_uploads")
    log.info("cleaned up", what="stray_uploads", key=upload.key)


async def _sessions_of(bucket: Bucket, key: str) -> list[Session] | None:
    """None where a record of this key cannot be read: it may name any upload."""
    try:
        return [kept.session for kept in await bucket.sessions.of_key(key)]
    except StoreError as error:
        if error.code not in UNREADABLE:
            raise
        return None


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
