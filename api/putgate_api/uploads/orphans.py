"""Store uploads that no session knows: left by a process that died, or an answer that was lost, while creating one.

Only what can be such an upload is dropped: open under exactly this key, begun within the life of the session that was
being created, and named by no session. Without a listing of uploads, the store's lifecycle rule removes them.
"""

from __future__ import annotations

from datetime import timedelta

from putgate_api.records.sessions import Session
from putgate_api.uploads.bucket import Bucket
from putgate_protocol.problems import Problem, problem
from putgate_storage.errors import Transient
from putgate_storage.store import ListsUploads, Store, StoreUpload

_ROUNDING = timedelta(seconds=2)
"""Stores write whole seconds, and their clock is not quite ours."""

_ROUNDS = 5
"""A part that arrives while an upload is aborted can survive it on some stores: abort until it is gone."""


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
        and session.created - _ROUNDING <= listed.initiated <= session.expires + _ROUNDING
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
            await abort_until_gone(store, upload)


async def abort_until_gone(store: Store, upload: StoreUpload) -> None:
    """Abort an upload of which the caller knows that it is not published. Raises `Transient` where it stays."""
    for _ in range(_ROUNDS):
        await store.abort(upload)
        if await store.list_parts(upload) is None:
            return
    raise Transient(
        f"the store still holds parts of an upload of {upload.key} that was aborted", code="AbortIncomplete"
    )


def busy(name: str, remaining: timedelta = timedelta(seconds=1)) -> Problem:
    """Another call is at work. `remaining`: how long it may be silent; it is looked at again sooner."""
    retry_after = min(max(remaining.total_seconds(), 1.0), 5.0)
    return problem("upload_busy", f"another call is at work on the upload of {name}", retry_after=retry_after)
