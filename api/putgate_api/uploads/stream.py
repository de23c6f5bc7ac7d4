"""Streams: an upload whose parts are declared as they come. Begins one, and signs parts once they are declared.

Nothing is signed that does not stand in the session's list of declared parts.
"""

from __future__ import annotations

from collections.abc import Sequence

from putgate_api.auth.access import require
from putgate_api.auth.caller import Caller
from putgate_api.records.sessions import Session, stream_id
from putgate_api.records.stream_parts import StreamPart
from putgate_api.upload_id import UploadToken
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.content import Content
from putgate_api.uploads.declared import Declared, check_open, checked_content_type, checked_metadata
from putgate_api.uploads.initiate import check_preconditions, is_readable
from putgate_api.uploads.opened import Opened, gone, open_upload_id
from putgate_api.uploads.orphans import busy
from putgate_api.uploads.session import OpenSession, admit, create, extend_read, store_upload
from putgate_api.uploads.sign import signable
from putgate_api.uploads.signing import seconds_until, signed_part
from putgate_api.uploads.streamed import streamed_head
from putgate_protocol.digests import FileHash, Md5, PartHash
from putgate_protocol.messages.initiate import Upload
from putgate_protocol.messages.sign import SignAnswer
from putgate_protocol.messages.stream import DeclareRequest, PartDeclaration, StreamRequest
from putgate_protocol.parts import MAX_PART_SIZE, PartPlan
from putgate_protocol.problems import problem
from putgate_storage.store import PartToSign

NOTHING = FileHash.of(())


async def begin_stream(bucket: Bucket, caller: Caller, request: StreamRequest) -> Upload:
    declared = _declared(bucket, caller, request)
    head = await streamed_head(bucket.streamed, await bucket.store.head(declared.key))
    content = None if head is None else Content.of(head)
    check_preconditions(declared, head, readable=is_readable(declared, content))
    await admit(bucket, declared)
    session = _session(bucket, declared)
    await bucket.stream_parts.begin(session)
    kept = await bucket.sessions.create(session)
    opened = None if kept is None else await create(bucket, declared, kept, None)
    if opened is None:
        raise busy(declared.name.encoded)
    return _upload(bucket, declared, opened)


async def declare_parts(bucket: Bucket, caller: Caller, request: DeclareRequest) -> SignAnswer:
    """Raises `part_redeclared`, `part_number_invalid`, `too_large`, and what `signable` raises."""
    opened = open_upload_id(bucket, caller, request.upload_id)
    if opened.token.commit != "stream":
        raise problem("request_invalid", "the parts of this upload were declared when it began: send `part_numbers`")
    parts = _parts(bucket, caller, opened, request.parts)
    kept = await signable(bucket, opened)
    if not await bucket.stream_parts.add(kept.session, parts):
        raise gone(opened)
    await extend_read(bucket, kept.session)
    signed = await bucket.store.sign_parts(
        store_upload(kept.session),
        [PartToSign(number=part.number, length=part.length, sha256=part.sha256, md5=part.md5) for part in parts],
        bucket.limits.url_ttl,
    )
    now = bucket.now()
    return SignAnswer.model_construct(
        upload_id=request.upload_id,
        parts=[
            signed_part(each, number=part.number, offset=_offset(opened, part), length=part.length, now=now)
            for part, each in zip(parts, signed, strict=True)
        ],
    )


def _declared(bucket: Bucket, caller: Caller, request: StreamRequest) -> Declared:
    name = request.parsed_name()
    key = bucket.key(name)
    require(caller, "upload", name, 0)
    check_open(bucket)
    _check_part_size(bucket, request.part_size)
    if request.if_absent and request.if_match is not None:
        raise problem("request_invalid", "if_absent and if_match exclude each other")
    declared = Declared(
        caller=caller,
        name=name,
        key=key,
        plan=PartPlan(size=0, part_size=request.part_size),
        file_hash=NOTHING,
        parts=(),
        md5=(),
        content_type=checked_content_type(bucket, request.content_type),
        metadata=checked_metadata(request.metadata or {}),
        if_absent=request.if_absent,
        if_match=request.if_match,
        recheck=0,
        tier=bucket.abilities.tier,
        streamed=True,
    )
    _check_store(bucket, declared)
    return declared


def _check_part_size(bucket: Bucket, part_size: int) -> None:
    """The bucket's, or that doubled some times, as the rule would have it for a file of some size."""
    doubled, rest = divmod(part_size, bucket.facts.part_size)
    if rest or doubled < 1 or doubled & (doubled - 1) or part_size > MAX_PART_SIZE:
        raise problem(
            "part_size_mismatch",
            f"a stream's parts have {bucket.facts.part_size} bytes here, or that doubled some times, up to "
            f"{MAX_PART_SIZE}; not {part_size}",
        )


def _check_store(bucket: Bucket, declared: Declared) -> None:
    if not bucket.abilities.conditional_put:
        raise problem(
            "precondition_unsupported",
            "this store has no conditional writes, without which the declared parts of a stream could be changed",
        )
    if declared.conditional and not bucket.abilities.conditional_complete:
        raise problem(
            "precondition_unsupported",
            "this store lets several conditional completions win at once, so a stream keeps no if_absent or if_match",
        )


def _session(bucket: Bucket, declared: Declared) -> Session:
    now, nonce = bucket.now(), bucket.random_hex(16)
    return Session(
        id=stream_id(declared.caller.owner, declared.key, nonce),
        owner=declared.caller.owner,
        key=declared.key,
        file_hash=NOTHING,
        size=0,
        part_size=declared.plan.part_size,
        nonce=nonce,
        state="creating",
        created=now,
        expires=now + min(bucket.limits.session_ttl, bucket.limits.abandon_after),
        holder=bucket.random_hex(8),
        streamed=True,
    )


def _upload(bucket: Bucket, declared: Declared, opened: OpenSession) -> Upload:
    session = opened.kept.session
    token = UploadToken(
        bucket_id=bucket.facts.bucket_id,
        owner=session.owner,
        name=declared.name,
        commit="stream",
        nonce=session.nonce,
        file_hash=NOTHING,
        size=0,
        part_size=session.part_size,
        expires=session.created + bucket.limits.abandon_after,
        if_absent=declared.if_absent,
        if_match=declared.if_match,
    )
    return Upload(
        upload_id=bucket.sealer.seal_upload(token),
        expires_at=session.expires,
        expires_in=seconds_until(session.expires, bucket.now()),
        commit="complete",
        parts=[],
        uploaded=[],
        next_part_number=1,
    )


def _parts(bucket: Bucket, caller: Caller, opened: Opened, declarations: Sequence[PartDeclaration]) -> list[StreamPart]:
    parts = [_part(bucket, opened, each) for each in declarations]
    if len({part.number for part in parts}) != len(parts):
        raise problem("part_number_invalid", "a part number was given twice")
    end = max(_offset(opened, part) + part.length for part in parts)
    if end > bucket.limits.max_object_size:
        raise problem(
            "too_large", f"a file may have {bucket.limits.max_object_size} bytes here; this stream has {end} already"
        )
    require(caller, "upload", opened.token.name, end)
    return parts


def _part(bucket: Bucket, opened: Opened, declared: PartDeclaration) -> StreamPart:
    number, part_size = declared.part_number, opened.token.part_size
    if not 1 <= number <= bucket.facts.max_parts:
        raise problem(
            "part_number_invalid",
            f"part numbers lie within 1…{bucket.facts.max_parts}; a longer stream needs larger parts from its "
            f"beginning than {part_size} bytes",
        )
    length = part_size if declared.length is None else declared.length
    if not 1 <= length <= part_size:
        raise problem("size_invalid", f"part {number} has 1 to {part_size} bytes, not {length}")
    try:
        md5 = None if declared.md5 is None else Md5.parse(declared.md5)
        sha256 = PartHash.parse(declared.sha256)
    except ValueError as error:
        raise problem("request_invalid", f"the digests of part {number}: {error}") from None
    if md5 is None and bucket.requires_md5:
        raise problem("md5_required", "this store checks parts by MD5 only: give md5 too, and read part_limit again")
    return StreamPart(number=number, length=length, sha256=sha256, md5=md5)


def _offset(opened: Opened, part: StreamPart) -> int:
    return (part.number - 1) * opened.token.part_size
