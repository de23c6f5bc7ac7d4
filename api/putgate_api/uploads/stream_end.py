"""The end of a stream: what its caller says it has become, held against every part that was declared.

Publishing it is the same as for any upload, and is not done here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from putgate_api.auth.access import require
from putgate_api.auth.caller import Caller
from putgate_api.records.parts import Digests
from putgate_api.records.sessions import Kept, Session
from putgate_api.records.stream_parts import Declared
from putgate_api.records.streamed import End
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.content import Content
from putgate_api.uploads.opened import Opened
from putgate_protocol.digests import FileHash, Md5, PartHash
from putgate_protocol.messages.base import HeldPart
from putgate_protocol.messages.complete import CompleteRequest
from putgate_protocol.parts import PartPlan
from putgate_protocol.problems import problem
from putgate_storage.errors import StoreError
from putgate_storage.store import Head, StoredPart

_NAMED = 1000
"""The most part numbers that one `parts_missing` names."""


def with_end(bucket: Bucket, caller: Caller, opened: Opened, request: CompleteRequest) -> Opened:
    """The upload as if its size and hash had been known from its beginning. Nothing of it is believed yet.

    Raises `request_invalid`, `size_invalid`, `too_large`, `forbidden`.
    """
    if request.size is None or request.file_hash is None:
        raise problem("request_invalid", "complete of a stream says its size and file_hash")
    if request.size < 1:
        raise problem("size_invalid", "a stream has at least one byte; an empty file is initiated with its size")
    if request.size > bucket.limits.max_object_size:
        raise problem("too_large", f"a file may have {bucket.limits.max_object_size} bytes here, not {request.size}")
    require(caller, "upload", opened.token.name, request.size)
    try:
        file_hash = FileHash.parse(request.file_hash)
    except ValueError as error:
        raise problem("request_invalid", f"file_hash: {error}") from None
    return replace(
        opened,
        token=replace(opened.token, size=request.size, file_hash=file_hash),
        plan=PartPlan(size=request.size, part_size=opened.token.part_size),
    )


async def declared_digests(bucket: Bucket, opened: Opened, session: Session) -> Digests | None:
    """The digests of all parts, which make the file hash and the size that the caller has said; None where the list is
    gone, or is too little for what the store checks by now. Raises `parts_missing`, `size_invalid`, `hash_mismatch`.
    """
    declared = await bucket.stream_parts.read(session)
    if declared is None:
        return None
    hashes = checked_hashes(opened.plan, opened.token.file_hash, declared)
    if not bucket.requires_md5:
        return Digests(sha256=tuple(hashes))
    md5 = [part.md5 for _, part in sorted(declared.items()) if part.md5 is not None]
    return Digests(sha256=tuple(hashes), md5=tuple(map(Md5, md5))) if len(md5) == len(hashes) else None


def checked_hashes(plan: PartPlan, file_hash: FileHash, declared: Declared) -> Sequence[PartHash]:
    """Pure; as `declared_digests`."""
    size = sum(part.length for part in declared.values())
    missing = [number for number in range(1, max(declared, default=0) + 1) if number not in declared]
    if missing:
        raise problem("parts_missing", f"{len(missing)} parts were never declared", parts=tuple(missing[:_NAMED]))
    if size != plan.size:
        raise problem("size_invalid", f"parts of {size} bytes in all were declared, not {plan.size}")
    hashes = [declared[part.number].sha256 for part in plan]
    if FileHash.of(hashes) != file_hash:
        raise problem("hash_mismatch", "the declared parts do not make the file hash")
    return hashes


async def note_end(bucket: Bucket, held: Kept) -> Kept | None:
    """Write down what the file is, before it is published; None when somebody else has taken over the session, whose
    record then stays. Where that fails nothing is published, and another call may try.
    """
    nonce = held.session.nonce
    end = End(file_hash=held.session.file_hash, size=held.session.size)
    try:
        if await bucket.streamed.write(nonce, end):
            return held
        written = await bucket.streamed.find(nonce)
        if written is not None and written.end == end:
            return held
        # A holder before us, who may wake up: only who has the session now may write over what it wrote. Whoever takes
        # over after this look finds our record, and does the same.
        renewed = await bucket.sessions.move(held)
        if renewed is not None and await bucket.streamed.write(nonce, end, over=written):
            return renewed
    except StoreError:
        await bucket.sessions.move(held, state="open", holder="")
        raise
    return None


def check_same_end(opened: Opened, head: Head) -> None:
    """Raises `hash_mismatch` where this stream has been published as something else than its caller says now."""
    content = Content.of(head)
    if content is None or content.nonce != opened.token.nonce:
        return
    if (content.file_hash, content.size) != (opened.token.file_hash, opened.token.size):
        raise problem("hash_mismatch", f"the stream was published with another hash or size as {opened.token.name}")


def held_of_stream(declared: Declared, stored: Sequence[StoredPart], *, md5: bool) -> list[HeldPart]:
    """What the store holds of the declared parts, at their right length. `md5`: and with the right ETag."""
    return [
        HeldPart(part_number=part.number, length=part.size)
        for part in stored
        if part.number in declared
        and declared[part.number].length == part.size
        and (not md5 or part.etag.lower() == (declared[part.number].md5 or b"").hex())
    ]
