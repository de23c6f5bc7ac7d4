"""From a source to what is declared to the API: sizes and hashes. Sends nothing.

A small file is read once, whole, and what is hashed is what is sent. A large one is hashed in threads, and hashes
that are already known for the same change key are not computed again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from putgate.errors import ClientError
from putgate.upload import source
from putgate.upload.hashing import Hashed, hash_part, hash_parts
from putgate.upload.job import Failed, Job
from putgate.upload.means import Means
from putgate.upload.progress import Known
from putgate.upload.source import Reading
from putgate_protocol.digests import FileHash, Md5, PartHash
from putgate_protocol.messages.initiate import InitiateRequest
from putgate_protocol.messages.part_limit import PartLimitAnswer
from putgate_protocol.parts import MIB, PartPlan
from putgate_protocol.problems import Problem, problem

log = logging.getLogger("putgate")

WHOLE = 8 * MIB
"""Files up to this many bytes are read whole; larger ones are read again as they are sent."""

SAVE_EVERY = 5.0
"""Seconds of hashing between two notes of it: what a crash costs at most."""

FileError = (Problem, ClientError, OSError)
"""What may be wrong with one file and says nothing about the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A source, hashed. The reading stays open for sending; who prepares it closes it. `md5s`: where the store needs
    them; else none.
    """

    job: Job
    reading: Reading
    plan: PartPlan
    hashes: Sequence[PartHash]
    file_hash: FileHash
    md5s: Sequence[Md5] = ()

    def request(self, recheck: int = 0) -> InitiateRequest:
        """Raises `Problem` (`request_invalid`) when the job's own fields cannot be sent."""
        job = self.job
        name = job.name.to_wire()
        try:
            return InitiateRequest(
                name=name.get("name"),
                name_b64=name.get("name_b64"),
                size=self.plan.size,
                file_hash=str(self.file_hash),
                part_size=self.plan.part_size,
                parts=[str(digest) for digest in self.hashes],
                md5=[str(digest) for digest in self.md5s] or None,
                content_type=job.content_type,
                metadata=dict(job.metadata) or None,
                if_absent=job.if_absent,
                if_match=job.if_match,
                recheck=min(recheck, 1000),
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(step) for step in first["loc"])
            raise problem("request_invalid", f"{job.name}: {place}: {first['msg']}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Large:
    """A file that is not read whole."""

    job: Job


def whole_limit(limit: PartLimitAnswer) -> int:
    """The largest file that is read whole: it has one part, and memory has room for several of them."""
    return min(limit.part_size, WHOLE)


def read_whole(job: Job, limit: PartLimitAnswer, room: int) -> Prepared | Large | None:
    """Read and hash a small file at once; None when it needs more than `room` bytes. Blocks.

    Raises `OSError`, `SourceChanged`.
    """
    reading = job.source.open()
    try:
        plan = PartPlan(size=reading.size, part_size=limit.part_size)
        if reading.size > whole_limit(limit):
            return Large(job=job)
        if reading.size > room:
            return None
        held = source.read_whole(reading)
    finally:
        reading.close()
    return _prepared(job, held, plan, [hash_part(held, part, with_md5=limit.requires_md5) for part in plan])


def read_group(
    jobs: Sequence[Job], limit: PartLimitAnswer, room: int
) -> tuple[list[Prepared | Large | Failed], Sequence[Job]]:
    """Read jobs in order until `room` bytes are full: what came of them, and the jobs that found no room. Blocks.

    The first job always finds room, so a group makes progress.
    """
    done: list[Prepared | Large | Failed] = []
    for at, job in enumerate(jobs):
        try:
            outcome = read_whole(job, limit, room if done else whole_limit(limit))
        except FileError as error:
            done.append(Failed(job=job, error=error))
            continue
        if outcome is None:
            return done, jobs[at:]
        if isinstance(outcome, Prepared):
            room -= outcome.plan.size
        done.append(outcome)
    return done, ()


async def hash_large(means: Means, job: Job, reading: Reading, limit: PartLimitAnswer) -> Prepared:
    """Hash an open source part by part, on from what is known of it. Raises `SourceChanged`, `OSError`, `Problem`."""
    if reading.size > limit.max_object_size:
        # It is refused here, so nobody else would ever say that it is allowed by now.
        means.wire.forget_limit()
        limit = await means.wire.part_limit()
    if reading.size > limit.max_object_size:
        raise problem(
            "too_large", f"{job.name} has {reading.size} bytes; the bucket takes at most {limit.max_object_size}"
        )
    plan = limit.rule.plan(reading.size)
    known = await means.progress.load(job.name)
    usable = known is not None and _holds(known, reading, plan, with_md5=limit.requires_md5)
    hashes = _known_digests(known, with_md5=limit.requires_md5) if known and usable else []
    upload_id = known.upload_id if known and usable else None
    fresh = len(hashes) < plan.count
    means.on_hashed(job.name, min(reading.size, len(hashes) * plan.part_size))
    saved = time.monotonic()
    async for digest in hash_parts(
        reading,
        plan,
        first=len(hashes) + 1,
        threads=means.options.hash_threads,
        pool=means.hashers,
        on_hashed=lambda count: means.on_hashed(job.name, count),
        with_md5=limit.requires_md5,
    ):
        hashes.append(digest)
        if time.monotonic() - saved >= SAVE_EVERY:
            await remember(means, _prepared(job, reading, plan, hashes), upload_id)
            saved = time.monotonic()
    if known and known.upload_id and not usable and known.part_hashes != tuple(hashed.sha256 for hashed in hashes):
        # It was begun for content that is no more; nobody will go on with it.
        await give_up(means, known.upload_id)
    if fresh:
        await remember(means, _prepared(job, reading, plan, hashes), upload_id)
    return _prepared(job, reading, plan, hashes)


def _prepared(job: Job, reading: Reading, plan: PartPlan, parts: Sequence[Hashed]) -> Prepared:
    hashes = tuple(part.sha256 for part in parts)
    md5s = tuple(part.md5 for part in parts if part.md5 is not None)
    return Prepared(job=job, reading=reading, plan=plan, hashes=hashes, file_hash=FileHash.of(hashes), md5s=md5s)


def _known_digests(known: Known, *, with_md5: bool) -> list[Hashed]:
    if with_md5:
        return list(map(Hashed, known.part_hashes, known.part_md5s))
    return [Hashed(digest, None) for digest in known.part_hashes]


def _holds(known: Known, reading: Reading, plan: PartPlan, *, with_md5: bool) -> bool:
    """Whether what is known is of this very content and plan, and all that is needed of it."""
    same = known.change_key == reading.change_key and known.part_size == plan.part_size
    whole = not with_md5 or len(known.part_md5s) == len(known.part_hashes)
    return same and whole and reading.change_key != "" and len(known.part_hashes) <= plan.count


async def remember(means: Means, prepared: Prepared, upload_id: str | None) -> None:
    """Note what is known. Hashes of what changed a moment ago are not: an equal change key would not prove them."""
    reading = prepared.reading
    if reading.change_key:
        known = Known(
            change_key=reading.change_key,
            part_size=prepared.plan.part_size,
            part_hashes=() if reading.racy else tuple(prepared.hashes),
            part_md5s=() if reading.racy else tuple(prepared.md5s),
            upload_id=upload_id,
        )
        await means.progress.save(prepared.job.name, known)


async def give_up(means: Means, upload_id: str) -> None:
    """Abort an upload that nobody wants any more. The server drops it by itself in the end, so a no is only noted."""
    try:
        await means.wire.abort(upload_id)
    except (Problem, ClientError) as error:
        log.info("an upload that is no longer wanted could not be aborted: %s", error)
