"""Status: which parts of an upload the store holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from putgate_api.auth.caller import Caller
from putgate_api.records.sessions import Session
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.content import Content
from putgate_api.uploads.opened import Opened, check_not_expired, gone, open_upload_id, session_of
from putgate_api.uploads.session import CopiesUnknown, copies_of, digests_of, held_parts, store_upload
from putgate_api.uploads.signing import seconds_until
from putgate_api.uploads.stream_end import held_of_stream
from putgate_protocol.messages.base import HeldPart
from putgate_protocol.messages.status import StatusAnswer, StatusRequest
from putgate_protocol.parts import PartPlan
from putgate_storage.store import StoredPart


async def status(bucket: Bucket, caller: Caller, request: StatusRequest) -> StatusAnswer:
    opened = open_upload_id(bucket, caller, request.upload_id)
    if opened.token.commit == "put":
        return await _status_of_put(bucket, opened, request.upload_id)
    kept = await session_of(bucket, opened)
    if kept is None or kept.session.state == "aborting":
        raise gone(opened)
    session = kept.session
    held: tuple[HeldPart, ...] = ()
    if session.streamed:
        opened = replace(opened, plan=PartPlan(size=session.size, part_size=session.part_size))
    if done := session.state == "done":
        held = _all_parts(opened)
    else:
        check_not_expired(bucket, opened, session)
        if session.state != "creating":
            stored = await bucket.store.list_parts(store_upload(session))
            if stored is not None:
                held = await _held(bucket, opened, session, stored)
            elif Content.published(await bucket.store.head(opened.key), session.nonce, session.size):
                done, held = True, _all_parts(opened)
            else:
                raise gone(opened)
    return StatusAnswer(
        upload_id=request.upload_id,
        status="done" if done else "open",
        expires_at=session.expires,
        expires_in=seconds_until(session.expires, bucket.now()),
        size=session.size,
        part_size=session.part_size,
        uploaded=list(held),
    )


async def _held(bucket: Bucket, opened: Opened, session: Session, stored: Sequence[StoredPart]) -> tuple[HeldPart, ...]:
    if session.streamed:
        declared = await bucket.stream_parts.read(session)
        return () if declared is None else tuple(held_of_stream(declared, stored, md5=bucket.requires_md5))
    digests = await digests_of(bucket, session) if bucket.requires_md5 else None
    if bucket.requires_md5 and digests is None:
        raise gone(opened)
    try:
        return held_parts(opened.plan, stored, await copies_of(bucket, session), () if digests is None else digests.md5)
    except CopiesUnknown:
        raise gone(opened) from None


async def _status_of_put(bucket: Bucket, opened: Opened, upload_id: str) -> StatusAnswer:
    done = Content.published(await bucket.store.head(opened.key), opened.token.nonce)
    return StatusAnswer(
        upload_id=upload_id,
        status="done" if done else "open",
        expires_at=opened.token.expires,
        expires_in=seconds_until(opened.token.expires, bucket.now()),
        size=opened.token.size,
        part_size=opened.token.part_size,
        uploaded=list(_all_parts(opened)) if done else [],
    )


def _all_parts(opened: Opened) -> tuple[HeldPart, ...]:
    return tuple(HeldPart(part_number=part.number, length=part.length) for part in opened.plan)
