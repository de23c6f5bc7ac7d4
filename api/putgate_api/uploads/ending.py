"""How a session ends without a file: its upload dropped in the store, its records removed.

Aborting an upload that was completed destroys the object on some stores, so the caller has looked at the key first
and holds the session in state `aborting`.
"""

from __future__ import annotations

from putgate_api.records.sessions import Kept
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.orphans import drop_orphans
from putgate_storage.errors import Transient
from putgate_storage.store import StoreUpload

_ROUNDS = 5
"""A part that arrives while an upload is aborted can survive it on some stores: abort until it is gone."""


async def drop_session(bucket: Bucket, kept: Kept) -> None:
    """Drop what a session in state `aborting`, held by us, has in the store, then its records."""
    session = kept.session
    if session.store_upload_id is None:
        await drop_orphans(bucket, session)
    else:
        await drop_upload(bucket, StoreUpload(key=session.key, upload_id=session.store_upload_id))
    # Written again just before it is removed, so that nobody else can have taken the record over.
    if await bucket.sessions.move(kept) is not None:
        await bucket.parts.remove(session)
        await bucket.sessions.remove(session)


async def drop_upload(bucket: Bucket, upload: StoreUpload) -> None:
    for _ in range(_ROUNDS):
        await bucket.store.abort(upload)
        if await bucket.store.list_parts(upload) is None:
            return
    raise Transient(
        f"the store still holds parts of an upload of {upload.key} that was aborted", code="AbortIncomplete"
    )
