"""The multipart way of a declared file: an open session, with what can be copied inside the store copied first.

What is left to send is answered with signed parts; where nothing is left, the upload is completed in the same call.
"""

from __future__ import annotations

from dataclasses import replace

from putgate_api.records.copies import Copies
from putgate_api.upload_id import UploadToken
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.complete import complete
from putgate_api.uploads.copying import RETRY_AFTER, CopyFailed, Filling, copy_some, outstanding
from putgate_api.uploads.declared import Declared
from putgate_api.uploads.orphans import busy
from putgate_api.uploads.session import OpenSession, give_up, open_session, still_open
from putgate_api.uploads.signing import next_page, seconds_until, sign_parts
from putgate_protocol.messages.base import File
from putgate_protocol.messages.complete import CompleteAnswer, CompleteRequest, Copying
from putgate_protocol.messages.initiate import Exists, Upload
from putgate_protocol.problems import Problem


class Copied(Exists):
    """On the wire no different: the file exists. It does since this call, whose content was copied inside the store."""


_ENDED = frozenset({"upload_gone", "upload_expired", "parts_missing"})
"""Answers of a complete that mean, to somebody who has just seen every part, that another call was at work."""


async def multipart(
    bucket: Bucket, declared: Declared, page: int, copies: Copies | None = None
) -> Exists | Upload | Copying:
    """An open session: a new one is to get `copies`, one that is resumed goes on as it was begun.

    Raises `FoundPublished`; `CopyFailed` once the session has been given up; the problems of initiate.
    """
    opened = await open_session(bucket, declared, copies)
    copies = opened.copies
    if copies is None:
        return await _to_send(bucket, declared, opened, page)
    opened = await _filled(bucket, declared, opened, copies)
    if outstanding(copies, opened.held):
        return Copying(upload_id=_upload_id(bucket, declared, opened), retry_after=RETRY_AFTER)
    if len(opened.held) < declared.plan.count:
        return await _to_send(bucket, declared, opened, page)
    return await _completed(bucket, declared, opened, page)


async def _filled(bucket: Bucket, declared: Declared, opened: OpenSession, copies: Copies) -> OpenSession:
    if not outstanding(copies, opened.held):
        return opened
    filling = Filling(
        caller=declared.caller, upload=opened.upload, plan=declared.plan, digests=declared.digests, copies=copies
    )
    try:
        return replace(opened, held=await copy_some(bucket, filling, opened.held))
    except CopyFailed:
        async with still_open(bucket, opened.kept.session) as kept:
            if kept is not None:
                await give_up(bucket, kept)
        raise


async def _completed(bucket: Bucket, declared: Declared, opened: OpenSession, page: int) -> Exists | Upload | Copying:
    request = CompleteRequest(upload_id=_upload_id(bucket, declared, opened))
    try:
        answer = await complete(bucket, declared.caller, request)
    except Problem as error:
        if error.code in _ENDED:
            raise busy(declared.name.encoded) from None
        raise
    match answer:
        case Copying():
            return answer
        case CompleteAnswer(file=File() as file):
            return Copied(file=file)
        case _:
            # Published, and replaced by somebody else's since: a complete will say so; there is nothing to send.
            return await _to_send(bucket, declared, opened, page)


async def _to_send(bucket: Bucket, declared: Declared, opened: OpenSession, page: int) -> Upload:
    """The first signed parts of what the store lacks."""
    numbers, next_number = next_page(declared.plan, {part.part_number for part in opened.held}, page)
    parts = await sign_parts(bucket, opened.upload, declared.plan, declared.digests, numbers)
    session = opened.kept.session
    return Upload.model_construct(
        status="upload",
        upload_id=_upload_id(bucket, declared, opened),
        expires_at=session.expires,
        expires_in=seconds_until(session.expires, bucket.now()),
        commit="complete",
        parts=parts,
        uploaded=list(opened.held),
        next_part_number=next_number,
    )


def _upload_id(bucket: Bucket, declared: Declared, opened: OpenSession) -> str:
    session = opened.kept.session
    return bucket.sealer.seal_upload(
        UploadToken(
            bucket_id=bucket.facts.bucket_id,
            owner=declared.caller.owner,
            name=declared.name,
            commit="complete",
            nonce=session.nonce,
            file_hash=declared.file_hash,
            size=declared.plan.size,
            part_size=declared.plan.part_size,
            expires=session.created + bucket.limits.abandon_after,
            if_absent=declared.if_absent,
            if_match=declared.if_match,
        )
    )
