"""Complete: verify that the store holds every part, publish, and look.

The look decides. Whatever the store answered to its Complete (success, 404, 412, 500, nothing), the file is ours
if and only if a HEAD of the key shows this upload's nonce and size; so the same call, repeated after any crash or
lost answer, ends the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import assert_never

import structlog

from putgate_api.auth.caller import Caller
from putgate_api.records.sessions import Kept, Session, State
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.content import Content, NotWhole, not_whole
from putgate_api.uploads.copying import RETRY_AFTER, CopyFailed, Filling, copy_some, outstanding
from putgate_api.uploads.ending import drop_session, drop_upload
from putgate_api.uploads.opened import Opened, check_not_expired, gone, open_upload_id, session_of
from putgate_api.uploads.orphans import busy
from putgate_api.uploads.registering import register
from putgate_api.uploads.session import digests_of, extend, held_parts, store_upload
from putgate_api.uploads.stream_end import check_same_end, declared_digests, note_end, with_end
from putgate_api.uploads.streamed import streamed_head
from putgate_protocol.digests import PartHash
from putgate_protocol.messages.base import HeldPart
from putgate_protocol.messages.complete import CompleteAnswer, CompleteRequest, Copying
from putgate_protocol.problems import Problem, problem
from putgate_storage.errors import ConditionFailed, Refused, StoreError, Transient
from putgate_storage.store import Condition, FinishedPart, Head, IfAbsent, IfMatch, StoredPart

log = structlog.get_logger("putgate.api")

_PAUSES = (0.5, 1.0, 2.0)
"""Seconds between tries of a Complete that the store did not answer; it is looked at before each."""

RENEW_EVERY = 20.0
"""Seconds between two renewals by a holder whose store takes long to complete; a third of what it may be silent."""

_ROUNDS = 8
"""How often a lost race for the record is looked at again; each loss means that somebody else moved it on."""

_NAMED = 1000
"""The most part numbers that one `parts_missing` names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a HEAD of the key shows. `content` is None where the object is not Putgate's."""

    head: Head
    content: Content | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What the store holds of an upload, checked against its plan, and the hash of each part."""

    stored: Sequence[StoredPart]
    hashes: Sequence[PartHash]

    def etags(self, count: int) -> list[str]:
        return [part.etag for part in self.stored if part.number <= count]


async def complete(bucket: Bucket, caller: Caller, request: CompleteRequest) -> CompleteAnswer | Copying:
    opened = open_upload_id(bucket, caller, request.upload_id)
    if opened.token.commit == "put":
        return await _confirm_put(bucket, caller, opened)
    if opened.token.commit == "stream":
        opened = with_end(bucket, caller, opened, request)
    for _ in range(_ROUNDS):
        async with bucket.sessions.alone(opened.token.owner, opened.session_id):
            kept = await session_of(bucket, opened)
            answer = await _step(bucket, caller, opened, kept)
        if answer is not None:
            return answer
    raise busy(opened.token.name.encoded)


async def _confirm_put(bucket: Bucket, caller: Caller, opened: Opened) -> CompleteAnswer:
    seen = await _look(bucket, opened)
    if seen is not None and (_is_this_upload(opened, seen) or _is_same_file(opened, seen)):
        if opened.token.commit == "put":
            await _register(bucket, opened, seen, [seen.head.etag])
        return _file(bucket, caller, opened, seen)
    raise gone(opened)


async def _step(bucket: Bucket, caller: Caller, opened: Opened, kept: Kept | None) -> CompleteAnswer | Copying | None:
    """One look at the session and what follows from it; None when somebody else has moved it on meanwhile."""
    if kept is None:
        # Without a session, only what the key itself shows can be answered.
        return await _confirm_put(bucket, caller, opened)
    match kept.session.state:
        case "open":
            return await _take_and_publish(bucket, caller, opened, kept)
        case "completing":
            seen = await _look(bucket, opened)
            if seen is not None and _is_of(seen, kept.session):
                await _done(bucket, kept, seen)
                return _file(bucket, caller, opened, seen)
            if not kept.lapsed():
                raise busy(opened.token.name.encoded, kept.remaining())
            return await _take_and_publish(bucket, caller, opened, kept)
        case "done":
            seen = await _look(bucket, opened)
            if seen is None:
                raise gone(opened)
            if _is_of(seen, kept.session) or _is_same_file(opened, seen):
                return _file(bucket, caller, opened, seen)
            if (torn := _not_whole(seen, kept.session)) is not None:
                raise torn
            return CompleteAnswer(status="superseded")
        case "creating":
            raise busy(opened.token.name.encoded)
        case "aborting":
            raise gone(opened)
        case _:
            assert_never(kept.session.state)


async def _take_and_publish(
    bucket: Bucket, caller: Caller, opened: Opened, kept: Kept
) -> CompleteAnswer | Copying | None:
    session = kept.session
    check_not_expired(bucket, opened, session)
    upload = store_upload(session)
    stored = await bucket.store.list_parts(upload)
    digests = await (declared_digests(bucket, opened, session) if session.streamed else digests_of(bucket, session))
    copies = await bucket.copies.read(session) if session.copying else None
    if stored is None or digests is None or (session.copying and copies is None):
        # An earlier Complete may have succeeded without anybody noting it.
        seen = await _look(bucket, opened)
        if seen is not None and _is_of(seen, session):
            await _done(bucket, kept, seen)
            return _file(bucket, caller, opened, seen)
        if await _has_moved(bucket, kept):
            return None
        if seen is not None and (torn := _not_whole(seen, session)) is not None:
            raise torn
        return await _confirm_put(bucket, caller, opened)
    holds = held_parts(opened.plan, stored, copies, digests.md5)
    if copies is not None and outstanding(copies, holds):
        filling = Filling(caller=caller, upload=upload, plan=opened.plan, digests=digests, copies=copies)
        return await _copy_more(bucket, opened, kept, filling, holds)
    _check_parts(opened, holds)
    end = {"size": opened.token.size, "file_hash": opened.token.file_hash} if session.streamed else {}
    held = await bucket.sessions.move(kept, state="completing", holder=bucket.random_hex(8), **end)
    if held is None:
        return None
    if session.streamed and (held := await note_end(bucket, held)) is None:
        return None
    return await _publish(bucket, caller, opened, held, _Parts(stored=stored, hashes=digests.sha256))


async def _copy_more(
    bucket: Bucket, opened: Opened, kept: Kept, filling: Filling, holds: Sequence[HeldPart]
) -> Copying | None:
    """Copy the next parts; None when nothing is left to copy, or somebody else has moved the session on meanwhile."""
    extended = await extend(bucket, kept) if kept.session.state == "open" else kept
    if extended is None:
        return None
    try:
        holds = await copy_some(bucket, filling, holds)
    except CopyFailed:
        await _end_copying(bucket, extended)
        raise gone(opened) from None
    return Copying(upload_id=opened.upload_id, retry_after=RETRY_AFTER) if outstanding(filling.copies, holds) else None


async def _end_copying(bucket: Bucket, kept: Kept) -> None:
    """Drop an upload that cannot be filled. Its record stays, so that the next initiate copies nothing."""
    held = await bucket.sessions.move(kept, state="aborting", holder=bucket.random_hex(8))
    if held is None:
        return
    dropped = await drop_upload(bucket, held.session)
    await bucket.sessions.move(held, state="aborting" if dropped else "done", holder="")


async def _publish(
    bucket: Bucket, caller: Caller, opened: Opened, held: Kept, parts: _Parts
) -> CompleteAnswer | Copying | None:
    """Ask the store to publish, under our hold of the session; then look, whatever it said."""
    async with _renewing(bucket, held) as hold:
        for pause in (*_PAUSES, None):
            succeeded, failure = await _try_complete(bucket, opened, held, _finished_parts(bucket, opened, parts))
            seen = await _look(bucket, opened)
            published = seen is not None and _is_of(seen, held.session)
            if published or pause is None or not isinstance(failure, Transient):
                break
            await asyncio.sleep(pause)
    current = hold.kept
    if seen is not None and _is_of(seen, held.session):
        await _register(bucket, opened, seen, parts.etags(opened.plan.count), parts.hashes)
        await _done(bucket, current, seen)
        return _file(bucket, caller, opened, seen)
    torn = None if seen is None else _not_whole(seen, held.session)
    if succeeded and seen is not None and torn is None:
        await _done(bucket, current, seen)
        if _is_same_file(opened, seen):
            return _file(bucket, caller, opened, seen)
        return CompleteAnswer(status="superseded")
    if torn is not None and not isinstance(failure, Transient):
        failure = torn
    error, state = await _failed(bucket, opened, current, parts, failure)
    if not await _give_back(bucket, current, state):
        # Whoever has taken it over knows how it ended: it may have been published, and replaced since.
        return None
    if seen is not None and _is_same_file(opened, seen) and state != "completing":
        return _file(bucket, caller, opened, seen)
    raise error


async def _try_complete(
    bucket: Bucket, opened: Opened, held: Kept, parts: Sequence[FinishedPart]
) -> tuple[bool, StoreError | None]:
    """Whether the store said that it has published, and what it said instead."""
    try:
        etag = await bucket.store.complete(store_upload(held.session), parts, _condition(opened))
    except StoreError as error:
        return False, error
    return etag is not None, None


async def _failed(
    bucket: Bucket, opened: Opened, held: Kept, parts: _Parts, failure: StoreError | None
) -> tuple[Problem | StoreError, State]:
    """Of a Complete that published nothing, or not what was sent: what to answer, and where it leaves the session."""
    match failure:
        case Transient():
            # It may still be at work in the store. Nobody may abort the upload meanwhile, so the hold stands until it
            # lapses.
            return failure, "completing"
        case ConditionFailed() if _condition(opened) is not None:
            detail = f"{opened.token.name} does not meet the upload's precondition any more"
            return problem("precondition_failed", detail), "aborting"
        case None | ConditionFailed():
            # Without a precondition it is how some stores answer a Complete that they have carried out before.
            return gone(opened), "open"
        case Refused(code="InvalidPart" | "InvalidPartOrder"):
            return await _parts_refused(bucket, opened, held, parts, failure)
        case _:
            return failure, "open"


async def _parts_refused(
    bucket: Bucket, opened: Opened, held: Kept, parts: _Parts, failure: StoreError
) -> tuple[Problem, State]:
    """The store has other parts than it listed; or it refuses what it lists, does not say which, and always would."""
    stored = await bucket.store.list_parts(store_upload(held.session))
    if stored is None:
        return gone(opened), "open"
    listed = {part.number: part for part in stored}
    other = [part.number for part in parts.stored if listed.get(part.number) != part]
    if other:
        return _parts_missing(opened, other), "open"
    log.warning("the store refuses parts that it lists; the upload is dropped", key=opened.key, reason=str(failure))
    if held.session.copying:
        # Copied again, they would be refused again.
        await _end_copying(bucket, held)
        raise gone(opened)
    return gone(opened), "aborting"


async def _give_back(bucket: Bucket, held: Kept, state: State) -> bool:
    """End our hold of a session whose upload was not published: it is dropped, or others may try. False when somebody
    else has taken it over.
    """
    match state:
        case "completing":
            return True
        case "aborting":
            aborting = await bucket.sessions.move(held, state="aborting")
            if aborting is not None:
                await drop_session(bucket, aborting)
            return aborting is not None
        case _:
            return await bucket.sessions.move(held, state=state, holder="") is not None


async def _has_moved(bucket: Bucket, kept: Kept) -> bool:
    """Whether somebody else has written the session since `kept` was read."""
    present = await bucket.sessions.get(kept.session.owner, kept.session.id)
    return present is not None and present.etag != kept.etag


def _check_parts(opened: Opened, holds: Sequence[HeldPart]) -> None:
    held = {part.part_number for part in holds}
    missing = [number for number in range(1, opened.plan.count + 1) if number not in held]
    if missing:
        raise _parts_missing(opened, missing)


def _parts_missing(opened: Opened, missing: Sequence[int]) -> Problem:
    return problem(
        "parts_missing",
        f"the store lacks {len(missing)} of the {opened.plan.count} parts of {opened.token.name}",
        parts=tuple(missing[:_NAMED]),
    )


def _finished_parts(bucket: Bucket, opened: Opened, parts: _Parts) -> list[FinishedPart]:
    sha256 = bucket.abilities.complete_takes_sha256
    return [
        FinishedPart(number=part.number, etag=part.etag, sha256=parts.hashes[part.number - 1] if sha256 else None)
        for part in parts.stored
        if part.number <= opened.plan.count
    ]


def _condition(opened: Opened) -> Condition | None:
    if opened.token.if_absent:
        return IfAbsent()
    if opened.token.if_match is not None:
        return IfMatch(etag=opened.token.if_match)
    return None


@dataclass(slots=True)
class _Hold:
    kept: Kept


@contextlib.asynccontextmanager
async def _renewing(bucket: Bucket, held: Kept) -> AsyncIterator[_Hold]:
    """Renew the hold while the body runs; the task ends with the body."""
    hold = _Hold(kept=held)

    async def renew() -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY)
            try:
                renewed = await bucket.sessions.move(hold.kept)
            except StoreError as error:
                log.warning("a hold could not be renewed", reason=str(error), code=error.code)
                continue
            if renewed is None:
                return
            hold.kept = renewed

    task = asyncio.create_task(renew())
    try:
        yield hold
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _look(bucket: Bucket, opened: Opened) -> Published | None:
    head = await streamed_head(bucket.streamed, await bucket.store.head(opened.key))
    if head is None:
        return None
    if opened.token.commit == "stream":
        check_same_end(opened, head)
    return Published(head=head, content=Content.of(head))


def _is_this_upload(opened: Opened, seen: Published) -> bool:
    return Content.published(seen.head, opened.token.nonce, opened.token.size) and seen.head.size == opened.token.size


def _is_of(seen: Published, session: Session) -> bool:
    """Whether the session's upload is what was seen: its nonce, and its size."""
    return Content.published(seen.head, session.nonce, session.size)


def _not_whole(seen: Published, session: Session) -> NotWhole | None:
    return not_whole(session.key, seen.head, session.nonce, session.size)


def _is_same_file(opened: Opened, seen: Published) -> bool:
    token, content = opened.token, seen.content
    return content is not None and (content.owner, content.file_hash, content.size, content.part_size) == (
        token.owner,
        token.file_hash,
        token.size,
        token.part_size,
    )


async def _register(
    bucket: Bucket, opened: Opened, seen: Published, etags: Sequence[str], hashes: Sequence[PartHash] = ()
) -> None:
    if seen.content is not None:
        await register(bucket, opened.token.name, seen.content, etags, hashes)


async def _done(bucket: Bucket, kept: Kept, seen: Published) -> None:
    """Note the end. The publication is the commit, so failing to write this note undoes nothing.

    Raises `upload_busy` where an abort has won the session meanwhile: it looks at the key as well.
    """
    try:
        # First the hashes: after the note a new upload may begin, and write its own under the same key.
        await bucket.parts.remove(kept.session)
        if kept.session.copying:
            await bucket.copies.remove(kept.session)
        if await bucket.sessions.move(kept, state="done", holder="", version=seen.head.etag) is not None:
            return
        present = await bucket.sessions.get(kept.session.owner, kept.session.id)
    except StoreError as error:
        log.warning("the end of an upload could not be noted", reason=str(error), code=error.code)
        return
    if present is not None and present.session.state == "aborting":
        raise busy(kept.session.key, present.remaining())


def _file(bucket: Bucket, caller: Caller, opened: Opened, seen: Published) -> CompleteAnswer:
    return CompleteAnswer(
        status="complete",
        file=bucket.file(
            caller,
            opened.token.name,
            size=seen.head.size,
            version=seen.head.etag,
            file_hash=str(opened.token.file_hash),
            modified=seen.head.modified,
            content_type=seen.head.content_type,
        ),
    )
