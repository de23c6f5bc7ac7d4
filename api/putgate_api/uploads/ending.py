"""How a session ends without a file: its upload dropped in the store, its records removed.

Aborting an upload that was completed destroys the object on some stores. So a look at the key comes first, at a
time when nobody else can complete the upload any more.
"""

from __future__ import annotations

from putgate_api.records.keys import RecordKeys
from putgate_api.records.sessions import Kept, Session
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.content import Content, NotWhole, not_whole
from putgate_api.uploads.orphans import abort_until_gone, drop_orphans
from putgate_storage.errors import ConditionFailed
from putgate_storage.store import DeletesIfMatch, StoreUpload


async def drop_session(bucket: Bucket, kept: Kept) -> bool:
    """End a session in state `aborting`, held by us. False when its upload turns out to be published: it is `done`.

    Raises as `drop_upload` does. After `NotWhole` the session is open again, so that another initiate can begin anew.
    """
    session = kept.session
    try:
        dropped = await drop_upload(bucket, session)
    except NotWhole:
        if session.store_upload_id is not None:
            await bucket.sessions.move(kept, state="open", holder="")
        raise
    if not dropped:
        await bucket.sessions.move(kept, state="done", holder="")
        return False
    # Written again just before it is removed, so that nobody else can have taken the record over.
    renewed = await bucket.sessions.move(kept)
    if renewed is not None:
        await bucket.parts.remove(session)
        if session.copying:
            await bucket.copies.remove(session)
        if session.streamed:
            await bucket.streamed.remove(session.nonce)
        await remove_record(bucket, renewed)
    return True


async def remove_record(bucket: Bucket, held: Kept) -> bool:
    """Remove a session record that we have just written. Where the store's deletes keep a condition, no record goes
    that somebody else has written meanwhile, however late the store is; it is False then.
    """
    if not bucket.abilities.conditional_delete:
        await bucket.sessions.remove(held.session)
        return True
    assert isinstance(bucket.store, DeletesIfMatch), "the probe has seen it"
    key = RecordKeys(bucket.prefix).session(held.session.owner, held.session.id)
    try:
        await bucket.store.delete_if_match(key, held.etag)
    except ConditionFailed:
        return False
    return True


async def drop_upload(bucket: Bucket, session: Session) -> bool:
    """Drop what a session that nobody can complete any more has in the store. False: it is published, and kept.

    Raises `NotWhole`; nothing is dropped then.
    """
    head = await bucket.store.head(session.key)
    if Content.published(head, session.nonce, session.size):
        return False
    if head is not None and (torn := not_whole(session.key, head, session.nonce, session.size)) is not None:
        raise torn
    if session.store_upload_id is None:
        await drop_orphans(bucket, session)
        return True
    await abort_until_gone(bucket.store, StoreUpload(key=session.key, upload_id=session.store_upload_id))
    return True
