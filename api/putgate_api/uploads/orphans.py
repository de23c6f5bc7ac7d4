"""Store uploads that no session knows: left by a process that died, or an answer that was lost, while creating one.

Only what can be such an upload is dropped: open under exactly this key, begun no earlier than the session that was
being created, and named by no session. Without a listing of uploads, the store's lifecycle rule removes them.
"""

from __future__ import annotations

from datetime import timedelta

from putgate_api.records.sessions import Session
from putgate_api.uploads.bucket import Bucket
from putgate_storage.store import ListsUploads

_ROUNDING = timedelta(seconds=2)
"""Stores write whole seconds, and their clock is not quite ours."""


async def drop_orphans(bucket: Bucket, session: Session) -> None:
    """Abort the uploads that the dead creator of `session` may have left under its key."""
    store = bucket.store
    if not isinstance(store, ListsUploads):
        return
    candidates = [
        found.upload
        for found in await store.list_uploads(session.key)
        if found.upload.key == session.key
        and found.initiated is not None
        and found.initiated >= session.created - _ROUNDING
    ]
    if not candidates:
        return
    # Read after the candidates were listed: an upload that a session has come to name meanwhile is spared.
    known = {named.store_upload_id for named in await bucket.sessions.of_key(session.key)}
    for upload in candidates:
        if upload.upload_id not in known:
            await store.abort(upload)
