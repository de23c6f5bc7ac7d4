"""Initiate: a declared file is stored already, is copied inside the store, is committed by one PUT, or becomes a
multipart upload.

The order matters: what exists is answered before preconditions are looked at, so that repeating a call whose answer
was lost succeeds.
"""

from __future__ import annotations

from contextlib import suppress

from putgate_api.auth.access import may, refusal
from putgate_api.auth.caller import Caller
from putgate_api.upload_id import UploadToken
from putgate_api.uploads.bucket import MAX_SIGNED_PARTS, PUT_LIFE, Bucket
from putgate_api.uploads.content import Content
from putgate_api.uploads.copying import CopyFailed
from putgate_api.uploads.declared import Declared, declare
from putgate_api.uploads.multipart import multipart
from putgate_api.uploads.orphans import busy
from putgate_api.uploads.session import FoundPublished
from putgate_api.uploads.signing import seconds_until, signed_part
from putgate_api.uploads.sources import find_source, may_have
from putgate_api.uploads.streamed import streamed_head
from putgate_protocol.digests import PartHash
from putgate_protocol.messages.complete import Copying
from putgate_protocol.messages.initiate import Exists, InitiateRequest, Upload
from putgate_protocol.names import Name
from putgate_protocol.problems import problem
from putgate_storage.errors import ConditionFailed, Unsupported
from putgate_storage.store import Condition, Head, IfAbsent, IfMatch, ObjectHeaders, PutToSign

CLOSER_LOOK = 3
"""From this many failed commits by PUT on, the file goes the multipart way, whose end the server itself sees."""

CACHE_CONTROL = "no-cache"
"""A name's content may change at any time, so caches ask again."""


async def initiate(bucket: Bucket, caller: Caller, request: InitiateRequest) -> Exists | Upload | Copying:
    """One file. Raises the problems of PROTOCOL's initiate."""
    declared = declare(bucket, caller, request)
    return await decide(bucket, declared, await bucket.store.head(declared.key), page=MAX_SIGNED_PARTS)


async def decide(bucket: Bucket, declared: Declared, head: Head | None, *, page: int) -> Exists | Upload | Copying:
    """Answer a declared file at whose key `head` was seen; at most `page` signed parts."""
    head = await streamed_head(bucket.streamed, head)
    content = None if head is None else Content.of(head)
    if head is not None and content is not None and _is_stored(bucket, declared, content):
        return exists(bucket, declared.caller, declared.name, head, content)
    readable = is_readable(declared, content)
    check_preconditions(declared, head, readable=readable)
    if declared.plan.size == 0:
        return await _write_empty(bucket, declared, head)
    try:
        copies = await find_source(bucket, declared, head, readable=readable)
        if copies is not None:
            with suppress(CopyFailed):
                return await multipart(bucket, declared, page, copies)
        return await _send(bucket, declared, head, page, readable=readable)
    except FoundPublished:
        return await decide(bucket, declared, await bucket.store.head(declared.key), page=page)


async def _send(
    bucket: Bucket, declared: Declared, head: Head | None, page: int, *, readable: bool
) -> Exists | Upload | Copying:
    """How to send a file whose bytes have to be sent."""
    if declared.plan.size <= bucket.put_max_size and declared.recheck < CLOSER_LOOK:
        if head is None:
            return await _one_put(bucket, declared, IfAbsent())
        if readable:
            return await _one_put(bucket, declared, IfMatch(etag=head.etag))
    if declared.conditional and declared.recheck >= CLOSER_LOOK and declared.plan.size <= bucket.put_max_size:
        raise problem(
            "precondition_failed", f"{declared.name} keeps changing while it is uploaded under a precondition"
        )
    if declared.conditional and not bucket.abilities.conditional_complete:
        raise problem(
            "precondition_unsupported",
            "this store lets several conditional completions win at once, so if_absent and if_match are only kept "
            f"for files of up to {bucket.put_max_size} bytes",
        )
    with suppress(CopyFailed):
        return await multipart(bucket, declared, page)
    # An upload was under way that got copies, and is given up: what is begun now is sent.
    with suppress(CopyFailed):
        return await multipart(bucket, declared, page)
    raise busy(declared.name.encoded)


def exists(bucket: Bucket, caller: Caller, name: Name, head: Head, content: Content) -> Exists:
    return Exists(
        file=bucket.file(
            caller,
            name,
            size=head.size,
            version=head.etag,
            file_hash=str(content.file_hash),
            modified=head.modified,
            content_type=head.content_type,
        )
    )


def _is_stored(bucket: Bucket, declared: Declared, content: Content) -> bool:
    """The same bytes, as far as this store would have checked them, and the caller may know of them."""
    same = content.same_bytes(declared.content(content.nonce)) and content.checked_by(bucket.abilities.tier)
    return same and may_have(bucket, declared.caller, content.owner, declared.name)


def is_readable(declared: Declared, content: Content | None) -> bool:
    """Whether the caller may know what has the name now."""
    return may(declared.caller, "download", declared.name) or (
        content is not None and content.owner == declared.caller.owner
    )


def check_preconditions(declared: Declared, head: Head | None, *, readable: bool) -> None:
    if declared.if_match is not None:
        if not readable:
            detail = f"if_match needs the right to download {declared.name}, or to own it"
            raise refusal(declared.caller, "download", declared.name, "not_granted", detail)
        if head is None or head.etag != declared.if_match:
            raise problem("precondition_failed", f"{declared.name} does not have the version of if_match")
    if declared.if_absent and head is not None:
        raise problem("precondition_failed", f"{declared.name} exists already")


async def _write_empty(bucket: Bucket, declared: Declared, head: Head | None) -> Exists:
    """A file without bytes has no part to send: the server writes it itself."""
    condition: Condition | None = None
    if declared.conditional:
        if not bucket.abilities.conditional_put:
            raise problem("precondition_unsupported", "this store has no conditional writes")
        condition = IfAbsent() if head is None else IfMatch(etag=head.etag)
    content = declared.content(bucket.random_hex(16))
    try:
        await bucket.store.put_small(declared.key, b"", headers=_object_headers(declared, content), condition=condition)
    except ConditionFailed:
        # It may be our own write that was in the way, if its answer was lost; the look below tells.
        if not Content.published(await bucket.store.head(declared.key), content.nonce):
            raise problem("precondition_failed", f"{declared.name} was written by somebody else meanwhile") from None
    except Unsupported:
        raise problem("precondition_unsupported", "this store has no conditional writes") from None
    written = await bucket.store.head(declared.key)
    stored = None if written is None else Content.of(written)
    if written is None or stored is None or not stored.same_bytes(content):
        raise problem("upload_busy", f"{declared.name} was written by somebody else meanwhile", retry_after=1)
    return exists(bucket, declared.caller, declared.name, written, stored)


async def _one_put(bucket: Bucket, declared: Declared, condition: Condition) -> Upload:
    """One presigned PUT to the final key, whose success is the commit."""
    content = declared.content(bucket.random_hex(16))
    size = declared.plan.size
    request = await bucket.store.sign_put(
        PutToSign(
            key=declared.key,
            length=size,
            sha256=PartHash(declared.parts[0]),
            headers=_object_headers(declared, content),
            condition=condition,
        ),
        min(PUT_LIFE, bucket.limits.url_ttl),
    )
    now = bucket.now()
    expires = now + bucket.limits.session_ttl
    token = UploadToken(
        bucket_id=bucket.facts.bucket_id,
        owner=declared.caller.owner,
        name=declared.name,
        commit="put",
        nonce=content.nonce,
        file_hash=declared.file_hash,
        size=size,
        part_size=declared.plan.part_size,
        expires=expires,
    )
    return Upload.model_construct(
        status="upload",
        upload_id=bucket.sealer.seal_upload(token),
        expires_at=expires,
        expires_in=seconds_until(expires, now),
        commit="put",
        parts=[signed_part(request, number=1, offset=0, length=size, now=now)],
        uploaded=[],
        next_part_number=None,
    )


def _object_headers(declared: Declared, content: Content) -> ObjectHeaders:
    return ObjectHeaders(
        content_type=declared.content_type,
        cache_control=CACHE_CONTROL,
        metadata={**declared.metadata, **content.metadata()},
    )
