"""One session record that is due: its upload finished or dropped, its records removed.

Whoever moves the record first by If-Match has it; this is one more caller among those of `uploads`, and leaves to them
what has not expired.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import assert_never

from putgate_api.housekeeping.tally import What
from putgate_api.records.sessions import CREATION_LAPSE, Kept
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.content import Content
from putgate_api.uploads.ending import drop_session, drop_upload, remove_record
from putgate_storage.errors import Transient

_CREATION = timedelta(minutes=5)
"""How long after the last write of a `creating` record its creator's call may still have opened an upload. Longer, and
another tool's upload of the same key would be taken for it; shorter, and one whose answer took long is left over."""

_REMOVAL = CREATION_LAPSE.total_seconds() - 2
"""Seconds for winning a hold and removing its record, where the store removes whatever is there: the hold ends later by
more than the second that stores round by. Longer, and a removal that is tried again takes the record of another's
upload; shorter, and a slow store keeps its records."""


def due(bucket: Bucket, kept: Kept) -> datetime:
    """When the record becomes housekeeping's, if nobody touches it. Pure."""
    session, now = kept.session, bucket.now()
    lapse = now + kept.remaining()
    match session.state:
        case "creating":
            return max(session.expires, lapse)
        case "open":
            # Until then a part that was signed just before the end may be on its way.
            return session.expires + bucket.limits.url_ttl
        case "completing" | "aborting":
            return lapse
        case "done":
            return now - kept.age + bucket.limits.session_ttl
        case _:
            assert_never(session.state)


async def tend(bucket: Bucket, kept: Kept) -> What | None:
    """Do what a due record needs. None: somebody else was faster, or will go on with it. Raises `upload_busy`."""
    match kept.session.state:
        case "creating":
            return await _end_unopened(bucket, kept)
        case "open" | "aborting":
            return await _drop(bucket, kept)
        case "completing":
            return await _finish_or_drop(bucket, kept)
        case "done":
            return await _forget(bucket, kept)
        case _:
            assert_never(kept.session.state)


async def _drop(bucket: Bucket, kept: Kept) -> What | None:
    held = await bucket.sessions.move(kept, state="aborting", holder=bucket.random_hex(8))
    if held is None:
        return None
    return "expired_uploads" if await drop_session(bucket, held) else "finished_uploads"


async def _finish_or_drop(bucket: Bucket, kept: Kept) -> What | None:
    """Its holder has died. Published, it has succeeded; else the client goes on with it, for as long as it may."""
    session = kept.session
    head = await bucket.store.head(session.key)
    if head is not None and Content.published(head, session.nonce, session.size):
        done = await bucket.sessions.move(kept, state="done", holder="", version=head.etag)
        return None if done is None else "finished_uploads"
    if bucket.now() < session.expires + bucket.limits.url_ttl:
        return None
    return await _drop(bucket, kept)


async def _end_unopened(bucket: Bucket, kept: Kept) -> What | None:
    """A creator died and nobody came back. Its upload, if it got one, has no name but its key and its time; the time
    is written down with the hold, so that it stays the same for whoever takes over from us.
    """
    session = kept.session
    until = min(session.expires, bucket.now() - kept.age + _CREATION)
    held = await bucket.sessions.move(kept, holder=bucket.random_hex(8), expires=until)
    if held is None:
        return None
    await drop_upload(bucket, held.session)
    return "unopened_sessions" if await _remove(bucket, held) else None


async def _forget(bucket: Bucket, kept: Kept) -> What | None:
    """Held as a session that is being created anew, which is what an initiate would make of it: should we die now,
    nobody takes the store's upload, long complete, for one to abort.
    """
    now = bucket.now()
    changes = {"state": "creating", "created": now, "expires": now, "store_upload_id": None, "version": None}
    held = await bucket.sessions.move(kept, holder=bucket.random_hex(8), **changes)
    return "done_sessions" if held is not None and await _remove(bucket, held) else None


async def _remove(bucket: Bucket, held: Kept) -> bool:
    """Remove the records that we hold. A hold of `creating` is short, so it is won again before each removal."""
    copies = (bucket.copies.remove,) if held.session.copying else ()
    for remove in (bucket.parts.remove, *copies):
        renewed = await bucket.sessions.move(held)
        if renewed is None:
            return False
        held = renewed
        await remove(held.session)
    if bucket.abilities.conditional_delete:
        return await remove_record(bucket, held)
    try:
        async with asyncio.timeout(_REMOVAL):
            renewed = await bucket.sessions.move(held)
            if renewed is not None:
                await remove_record(bucket, renewed)
    except TimeoutError as error:
        detail = f"the session record {held.session.id} was not removed while it was held"
        raise Transient(detail, code="HoldLapsed") from error
    return renewed is not None
