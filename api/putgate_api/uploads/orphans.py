"""Store uploads that no session knows: left by a process that died, or an answer that was lost, while creating one.

Only what can be such an upload is dropped: open under exactly this key, begun no earlier than the session that was
being created, and named by no session. Without a listing of uploads, the store's lifecycle rule removes them.
"""

from __future__ import annotations

from datetime import timedelta

from putgate_api.records.sessions import Session
from putgate_api.uploads.bucket import Bucket
from putgate_protocol.problems import Problem, problem
from putgate_storage.store import ListsUploads

_ROUNDING = timedelta(seconds=2)
"""Stores write whole seconds, and their clock is not quite ours."""


async def drop_orphans(bucket: Bucket, session: Session) -> None:
    """Abort the uploads that the dead creator of `session` may have left under its key.

    Raises `upload_busy` while another session of the key is being created: its upload has no name yet.
    """
    store = bucket.store
    if not isinstance(store, ListsUploads):
        return
    candidates = [
        listed.upload
        for listed in await store.list_uploads(session.key)
        if listed.upload.key == session.key
        and listed.initiated is not None
        and listed.initiated >= session.created - _ROUNDING
    ]
    if not candidates:
        return
    # Read after the candidates were listed: an upload that a session has come to name meanwhile is spared.
    own = (session.owner, session.id)
    found = await bucket.sessions.of_key(session.key)
    sessions = [kept for kept in found if (kept.session.owner, kept.session.id) != own]
    if any(kept.session.state == "creating" and not kept.lapsed() for kept in sessions):
        raise busy(session.key)
    known = {kept.session.store_upload_id for kept in sessions}
    for upload in candidates:
        if upload.upload_id not in known:
            await store.abort(upload)


def busy(name: str, remaining: timedelta = timedelta(seconds=1)) -> Problem:
    """Another call is at work. `remaining`: how long it may be silent; it is looked at again sooner."""
    retry_after = min(max(remaining.total_seconds(), 1.0), 5.0)
    return problem("upload_busy", f"another call is at work on the upload of {name}", retry_after=retry_after)
