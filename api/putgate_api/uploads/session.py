"""The open session of a declared file: found and resumed, or begun. Decides nothing about publication.

At most one process gets to move a session on at a time, and each step can be taken over: whoever finds a step
that stands still goes on from what the bucket shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from putgate_api.records.copies import Copies
from putgate_api.records.parts import Digests, md5_mark
from putgate_api.records.sessions import Kept, Session, SessionOf
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.content import Content, NotWhole
from putgate_api.uploads.declared import Declared
from putgate_api.uploads.ending import drop_session, drop_upload
from putgate_api.uploads.orphans import busy, drop_orphans
from putgate_protocol.digests import Md5
from putgate_protocol.messages.base import HeldPart
from putgate_protocol.parts import PartPlan
from putgate_protocol.problems import Problem
from putgate_storage.errors import StoreError, Transient
from putgate_storage.store import ObjectHeaders, StoredPart, StoreUpload

_LOOKS = 12
"""How often a step of somebody else's is looked at before the caller is told to come back."""

_PAUSE = 0.15
"""Seconds between two looks. Creating an upload takes a store a few milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """A session in state `open`, and what the store holds of it. `copies`: what is copied for it, if anything."""

    kept: Kept
    upload: StoreUpload
    held: tuple[HeldPart, ...]
    copies: Copies | None = None


class CopiesUnknown(Exception):
    """Nobody can say which parts of the session's upload are copies, so none of them can be trusted."""


class FoundPublished(Exception):
    """The session's upload has been published meanwhile: the name has to be looked at again."""


async def open_session(bucket: Bucket, declared: Declared, copies: Copies | None = None) -> OpenSession:
    """Resume or begin; what is begun is to get these `copies`. One that is resumed goes on as it was begun.

    Raises `FoundPublished`; `upload_busy` while another holder is at work; `StoreError`.
    """
    wanted = SessionOf(
        owner=declared.caller.owner,
        key=declared.key,
        name=declared.name,
        file_hash=declared.file_hash,
        part_size=declared.plan.part_size,
        if_absent=declared.if_absent,
        if_match=declared.if_match,
    ).id
    for look in range(_LOOKS):
        if look:
            await asyncio.sleep(_PAUSE)
        async with bucket.sessions.alone(declared.caller.owner, wanted):
            kept = await bucket.sessions.get(declared.caller.owner, wanted)
            if kept is None:
                opened = await _begin(bucket, declared, wanted, copies)
            else:
                if kept.session.state == "aborting" and kept.session.copying:
                    # Its copies have failed; another try would throw away what is sent meanwhile, again and again.
                    copies = None
                opened = await _go_on(bucket, declared, kept, copies)
        if opened is not None:
            return opened
    raise busy(declared.name.encoded)


def store_upload(session: Session) -> StoreUpload:
    if session.store_upload_id is None:
        raise ValueError(f"a session in state {session.state} has no store upload")
    return StoreUpload(key=session.key, upload_id=session.store_upload_id)


def held_parts(
    plan: PartPlan, stored: Sequence[StoredPart], copies: Copies | None, md5: Sequence[Md5] = ()
) -> tuple[HeldPart, ...]:
    """The parts that are as long as the plan says; a part of another length is as good as missing. A part that is to
    be copied counts only with the ETag that it must have: nobody may have looked yet at what its copy has become.
    `md5`: of every part, where the store may have let something else in; then every part counts only with this ETag.
    """
    expected = {} if copies is None else copies.etags
    return tuple(
        HeldPart(part_number=part.number, length=part.size)
        for part in stored
        if part.number <= plan.count
        and plan.part(part.number).length == part.size
        and expected.get(part.number, part.etag) == part.etag
        and (not md5 or md5[part.number - 1].is_etag(part.etag))
    )


async def digests_of(bucket: Bucket, session: Session) -> Digests | None:
    """What is signed for a session; None where it is lost, or too little for what the store checks by now."""
    if bucket.requires_md5 and not session.md5:
        return None
    return await bucket.parts.read(session)


async def copies_of(bucket: Bucket, session: Session) -> Copies | None:
    """What is copied for a session. Raises `CopiesUnknown` where something is and nobody can say what."""
    if not session.copying:
        return None
    copies = await bucket.copies.read(session)
    if copies is None:
        raise CopiesUnknown
    return copies


async def _begin(bucket: Bucket, declared: Declared, wanted: str, copies: Copies | None) -> OpenSession | None:
    await admit(bucket, declared)
    session = _fresh(bucket, declared, wanted, copies)
    await bucket.parts.write(session, declared.digests)
    kept = await bucket.sessions.create(session)
    return None if kept is None else await create(bucket, declared, kept, copies)


async def _go_on(bucket: Bucket, declared: Declared, kept: Kept, copies: Copies | None) -> OpenSession | None:
    session = kept.session
    match session.state:
        case "open":
            return await _resume(bucket, declared, kept, copies)
        case "creating":
            return await _begin_again(bucket, declared, kept, copies) if kept.lapsed() else None
        case "completing":
            if Content.published(await bucket.store.head(session.key), session.nonce, session.size):
                await bucket.sessions.move(kept, state="done", holder="")
                raise FoundPublished
            if not kept.lapsed():
                raise busy(declared.name.encoded, kept.remaining())
            await bucket.sessions.move(kept, state="open", holder="")
            return None
        case "aborting":
            if not kept.lapsed():
                raise busy(declared.name.encoded, kept.remaining())
            taken = await bucket.sessions.move(kept, holder=bucket.random_hex(8))
            if taken is not None and not await drop_session(bucket, taken):
                raise FoundPublished
            return None
        case "done":
            return await _begin_again(bucket, declared, kept, copies)
        case _:
            assert_never(session.state)


async def _resume(bucket: Bucket, declared: Declared, kept: Kept, copies: Copies | None) -> OpenSession | None:
    session, now = kept.session, bucket.now()
    upload = store_upload(session)
    other = session.md5 != md5_mark(declared.md5)
    if other or now >= session.created + bucket.limits.abandon_after:
        # For one store upload one list is signed, ever. And the store's own rule drops uploads of a certain age;
        # begin another before it does.
        opened = await _begin_again(bucket, declared, kept, copies)
        if opened is not None:
            # What the store has made of it stays, and is no trouble of the new one's.
            with suppress(NotWhole):
                await drop_upload(bucket, session)
        return opened
    stored = await bucket.store.list_parts(upload)
    if stored is None:
        return await _begin_again(bucket, declared, kept, copies)
    try:
        under_way = await copies_of(bucket, session)
    except CopiesUnknown:
        await give_up(bucket, kept)
        return None
    # The record is nothing without its part hashes; writing them again heals one that has lost them.
    await bucket.parts.write(session, declared.digests)
    if (extended := await extend(bucket, kept)) is None:
        return None
    held = held_parts(declared.plan, stored, under_way, declared.md5)
    return OpenSession(kept=extended, upload=upload, held=held, copies=under_way)


async def give_up(bucket: Bucket, kept: Kept) -> None:
    """End an open session whose parts cannot be trusted, unless somebody else has moved it on. For who keeps it alone.

    Raises `FoundPublished`.
    """
    taken = await bucket.sessions.move(kept, state="aborting", holder=bucket.random_hex(8))
    if taken is not None and not await drop_session(bucket, taken):
        raise FoundPublished


@asynccontextmanager
async def still_open(bucket: Bucket, session: Session) -> AsyncIterator[Kept | None]:
    """An open session that was read some time ago, as it stands now and alone; None where it has been moved on. For who
    does not keep it alone already: on a store without conditional writes nothing else tells that what one has read is
    old, and writing that back would undo another call's step.
    """
    async with bucket.sessions.alone(session.owner, session.id):
        kept = await bucket.sessions.get(session.owner, session.id)
        same = kept is not None and (kept.session.state, kept.session.nonce) == ("open", session.nonce)
        yield kept if same else None


async def extend(bucket: Bucket, kept: Kept) -> Kept | None:
    """Activity prolongs a session, at most once per quarter of its life, never past the store's own clean-up. For who
    keeps it alone; None where somebody else has moved it on.
    """
    expires = _prolonged(bucket, kept.session)
    return kept if expires is None else await bucket.sessions.move(kept, expires=expires)


async def extend_read(bucket: Bucket, session: Session) -> None:
    """The same for who has only read it."""
    if _prolonged(bucket, session) is not None:
        async with still_open(bucket, session) as kept:
            if kept is not None:
                await extend(bucket, kept)


def _prolonged(bucket: Bucket, session: Session) -> datetime | None:
    """When the session is to expire from now on; None where that stays as it is."""
    ttl = bucket.limits.session_ttl
    if session.expires - bucket.now() > ttl * 3 / 4:
        return None
    expires = min(bucket.now() + ttl, session.created + bucket.limits.abandon_after)
    return None if expires - session.expires < timedelta(seconds=1) else expires


async def _begin_again(bucket: Bucket, declared: Declared, kept: Kept, copies: Copies | None) -> OpenSession | None:
    """Replace the session by a fresh one; None when somebody else was faster."""
    old = kept.session
    if old.state == "done":
        await admit(bucket, declared)
    await bucket.parts.write(old, declared.digests)
    fresh = _fresh(bucket, declared, old.id, copies)
    if old.state == "creating":
        # What earlier creators left is looked for from the first one's time on, however many of them died.
        fresh = replace(fresh, created=old.created)
    taken = await bucket.sessions.move(kept, **_changes(fresh))
    if taken is None:
        return None
    if old.state == "creating":
        try:
            await drop_orphans(bucket, old)
        except Problem:
            await bucket.sessions.move(taken, holder="")
            raise
    return await create(bucket, declared, taken, copies)


async def admit(bucket: Bucket, declared: Declared) -> None:
    """Raises `too_many_uploads`; an upload that is open already goes on in any case."""
    if bucket.open_uploads is not None:
        owner = declared.caller.owner
        await bucket.open_uploads.admit(bucket.store, bucket.sessions.folder(owner), owner)


async def create(bucket: Bucket, declared: Declared, kept: Kept, copies: Copies | None) -> OpenSession | None:
    """Create the store upload of a session in state `creating` that we hold. What is to be copied is written before."""
    session = kept.session
    if copies is not None:
        await bucket.copies.write(session, copies)
    content = declared.content(session.nonce)
    headers = ObjectHeaders(
        content_type=declared.content_type,
        metadata={**declared.metadata, **content.metadata()},
    )
    try:
        upload = await bucket.store.create_upload(declared.key, headers)
    except StoreError as error:
        # It may have been created. Without a holder the next call takes over at once, and looks for it.
        if isinstance(error, Transient):
            await bucket.sessions.move(kept, holder="")
        raise
    opened = await bucket.sessions.move(
        kept, state="open", store_upload_id=upload.upload_id, holder="", created=bucket.now()
    )
    if opened is None:
        await bucket.store.abort(upload)
        return None
    return OpenSession(kept=opened, upload=upload, held=(), copies=copies)


def _fresh(bucket: Bucket, declared: Declared, wanted: str, copies: Copies | None) -> Session:
    now = bucket.now()
    return Session(
        id=wanted,
        owner=declared.caller.owner,
        key=declared.key,
        file_hash=declared.file_hash,
        size=declared.plan.size,
        part_size=declared.plan.part_size,
        nonce=bucket.random_hex(16),
        state="creating",
        created=now,
        expires=now + min(bucket.limits.session_ttl, bucket.limits.abandon_after),
        holder=bucket.random_hex(8),
        copying=copies is not None,
        md5=md5_mark(declared.md5),
    )


def _changes(fresh: Session) -> dict[str, object]:
    return {
        name: getattr(fresh, name)
        for name in ("nonce", "state", "created", "expires", "holder", "store_upload_id", "version", "copying", "md5")
    }
