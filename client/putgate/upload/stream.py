"""A stream's way to the store: read once, in a few buffers, each part declared, sent and sent again from its buffer.

What cannot be finished is given up: nothing of a stream can be resumed, because nobody can read it again. A stream
that ends within its first part is uploaded as the small file that it is.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import BinaryIO, Never

from pydantic import ValidationError

from putgate.errors import StoreRefused, WrongSize
from putgate.upload.inflow import Inflow, Piece, PieceReading
from putgate.upload.job import Job, Uploaded
from putgate.upload.means import Means
from putgate.upload.one import upload_one
from putgate.upload.one_part import OnePart
from putgate.upload.prepare import give_up
from putgate.upload.signatures import Signatures
from putgate.upload.source import BytesSource
from putgate_protocol.digests import FileHash, PartHash
from putgate_protocol.messages.base import File, SignedPart
from putgate_protocol.messages.complete import CompleteAnswer
from putgate_protocol.messages.stream import PartDeclaration, StreamRequest
from putgate_protocol.parts import Part
from putgate_protocol.problems import problem

IN_FLIGHT = 3
"""Parts sent at once, while one more is read: four buffers of 8 MiB. More only hides more latency, for more memory."""

FAREWELL = 10.0
"""Seconds for giving up an upload when the program ends; what takes longer the server drops by itself."""


@dataclass(frozen=True, slots=True)
class StreamSource:
    """A stream is read once; whoever wants it again has to make it again."""

    stream: BinaryIO = field(repr=False)

    def open(self) -> Never:
        raise OSError(errno.ESPIPE, "a stream can be read only once")


async def upload_stream(means: Means, job: Job, stream: BinaryIO, size: int | None, part_size: int | None) -> Uploaded:
    """`size`: how many bytes the stream must have; without it its end is believed. `part_size`: of a long stream.

    Raises `WrongSize`, `Problem`, `ClientError`, and what reading the stream raises; nothing is visible then.
    """
    limit = await means.wire.part_limit()
    chosen = part_size or limit.rule.part_size_for(size or 0)
    inflow = Inflow(stream, chosen, md5=limit.requires_md5)
    first = await inflow.next()
    if not first.ended:
        return await _Stream(means, job, inflow, size).run(first, chosen)
    _check_end(job, first.length, size)
    return await upload_one(means, _whole(job, first))


def _whole(job: Job, piece: Piece) -> Job:
    """All of a short stream as an ordinary file."""
    return Job(
        name=job.name,
        source=BytesSource(piece.buffer[: piece.length]),
        content_type=job.content_type,
        metadata=job.metadata,
        if_absent=job.if_absent,
        if_match=job.if_match,
    )


def _check_end(job: Job, came: int, size: int | None) -> None:
    if size is not None and came != size:
        raise WrongSize(f"{job.name}: the stream ended after {came} bytes instead of {size}; nothing was stored")


class _Stream:
    """One stream under way."""

    def __init__(self, means: Means, job: Job, inflow: Inflow, size: int | None) -> None:
        self._means = means
        self._job = job
        self._inflow = inflow
        self._size = size
        self._hashes: list[PartHash] = []
        self._read = 0
        self._upload_id = ""
        self._undeclared: dict[int, PartDeclaration] = {}
        self._signing = asyncio.Lock()
        self._signatures = Signatures()

    async def run(self, first: Piece, part_size: int) -> Uploaded:
        upload = await self._means.wire.begin_stream(_request(self._job, part_size))
        self._upload_id = upload.upload_id
        async with self._given_up_unless_done():
            await self._send_all(first)
            _check_end(self._job, self._read, self._size)
            file_hash = FileHash.of(self._hashes)
            done = await self._means.wire.complete(self._upload_id, size=self._read, file_hash=str(file_hash))
            if not isinstance(done, CompleteAnswer):
                raise StoreRefused(f"{self._job.name}: the server copies what was streamed", status=409)
        return self._uploaded(done.file, file_hash)

    @contextlib.asynccontextmanager
    async def _given_up_unless_done(self) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            # Also where we are cancelled: what is under way takes room in the store until somebody drops it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL):
                    await give_up(self._means, self._upload_id)
            raise

    async def _send_all(self, first: Piece) -> None:
        free = asyncio.Semaphore(min(IN_FLIGHT, self._means.options.concurrency))
        piece = first
        try:
            async with asyncio.TaskGroup() as group:
                while piece.length:
                    self._count(piece)
                    await free.acquire()
                    group.create_task(self._send(len(self._hashes), piece, free))
                    if piece.ended:
                        return
                    piece = await self._inflow.next()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def _count(self, piece: Piece) -> None:
        self._hashes.append(piece.sha256)
        self._read += piece.length
        if self._size is not None and self._read > self._size:
            raise WrongSize(f"{self._job.name}: the stream has more than {self._size} bytes; nothing was stored")

    async def _send(self, number: int, piece: Piece, free: asyncio.Semaphore) -> None:
        part = Part(number=number, offset=0, length=piece.length)
        one = OnePart(self._means, self._signatures, self._job.name, PieceReading(piece), part)
        await one.send(lambda: self._signed(number, piece))
        self._inflow.give_back(piece)
        free.release()

    async def _signed(self, number: int, piece: Piece) -> SignedPart:
        """Declares the part, again where its signature has ended; those that wait meanwhile go along."""
        if (signed := self._signatures.live(number)) is not None:
            return signed
        self._undeclared[number] = _declaration(number, piece)
        async with self._signing:
            if number in self._undeclared:
                declared, self._undeclared = list(self._undeclared.values()), {}
                answer = await self._means.wire.declare(self._upload_id, declared)
                self._upload_id = answer.upload_id
                self._signatures.add(answer.parts)
        return self._signatures.new(number)

    def _uploaded(self, file: File | None, file_hash: FileHash) -> Uploaded:
        name = self._job.name.to_wire()
        known = File(name=name.get("name"), name_b64=name.get("name_b64"), size=self._read, file_hash=str(file_hash))
        return Uploaded(job=self._job, file=file or known, how="complete", sent_bytes=self._read, change_key="")


def _declaration(number: int, piece: Piece) -> PartDeclaration:
    return PartDeclaration(
        part_number=number,
        sha256=str(piece.sha256),
        length=piece.length if piece.ended else None,
        md5=None if piece.md5 is None else base64.b64encode(piece.md5).decode(),
    )


def _request(job: Job, part_size: int) -> StreamRequest:
    """Raises `Problem` (`request_invalid`) when the job's own fields cannot be sent."""
    name = job.name.to_wire()
    try:
        return StreamRequest(
            name=name.get("name"),
            name_b64=name.get("name_b64"),
            part_size=part_size,
            content_type=job.content_type,
            metadata=dict(job.metadata) or None,
            if_absent=job.if_absent,
            if_match=job.if_match,
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise problem("request_invalid", f"{job.name}: {place}: {first['msg']}") from None
