"""A stream cut into parts, each read into memory and hashed on the way; nothing is read ahead of its buffer.

A read may block for as long as its source likes, and cannot be cancelled. So each part is read in a thread that nobody
waits for at the end of the program: an interrupted upload must not hang until its dead source speaks again.
"""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from putgate_protocol.digests import PartHash

PIECE = 64 * 1024
"""Bytes asked for at once: all that a pipe gives. More would be taken from the heap each time, and given back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part's bytes: the first `length` of the buffer. Shorter than the buffer: the stream has ended."""

    buffer: mmap.mmap
    length: int
    sha256: PartHash
    md5: bytes | None

    @property
    def ended(self) -> bool:
        return self.length < len(self.buffer)


class PieceReading:
    """A piece for the sender, which reads in other threads: views of the buffer, so that nothing is copied. The buffer
    stays as it is until the part is stored.
    """

    change_key = ""
    racy = False

    def __init__(self, piece: Piece) -> None:
        self._view = memoryview(piece.buffer)[: piece.length]
        self.size = piece.length

    def pread(self, length: int, offset: int) -> memoryview:
        return self._view[offset : offset + length]

    def check(self) -> None:
        """Bytes do not change."""

    def close(self) -> None:
        """Nothing is held open."""


class Inflow:
    """Parts of `part_size` bytes, one after the other. `md5`: whether the store wants one of each."""

    def __init__(self, stream: BinaryIO, part_size: int, *, md5: bool) -> None:
        self._stream = stream
        self._part_size = part_size
        self._md5 = md5
        self._free: list[mmap.mmap] = []

    async def next(self) -> Piece:
        """The next part; of no bytes where the stream ended with the last one. Raises `OSError`, `ValueError` (it was
        closed). One call at a time.
        """
        buffer = self._free.pop() if self._free else mmap.mmap(-1, self._part_size)
        return await _in_thread(lambda: _filled(self._stream, buffer, md5=self._md5))

    def give_back(self, piece: Piece) -> None:
        """Its bytes are not needed any more."""
        self._free.append(piece.buffer)


def _filled(stream: BinaryIO, buffer: mmap.mmap, *, md5: bool) -> Piece:
    sha256 = hashlib.sha256()
    also = hashlib.md5(usedforsecurity=False) if md5 else None
    at = 0
    while at < len(buffer) and (data := _read(stream, min(PIECE, len(buffer) - at))):
        buffer[at : at + len(data)] = data
        at += len(data)
        sha256.update(data)
        if also is not None:
            also.update(data)
    return Piece(
        buffer=buffer, length=at, sha256=PartHash(sha256.digest()), md5=None if also is None else also.digest()
    )


def _read(stream: BinaryIO, most: int) -> bytes:
    """Some bytes; none at the end."""
    while True:
        data: bytes | None = stream.read(most)
        if data is not None:
            return data
        # Somebody else has made the pipe one that does not block: wait until it has something to say.
        select.select([stream], [], [])


async def _in_thread(work: Callable[[], Piece]) -> Piece:
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Piece] = loop.create_future()

    def settle(piece: Piece | None, error: BaseException | None) -> None:
        if result.done():
            return
        if piece is not None:
            result.set_result(piece)
        elif error is not None:
            result.set_exception(error)

    def run() -> None:
        piece, failure = None, None
        try:
            piece = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the part is awaited
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, piece, failure)

    threading.Thread(target=run, name="putgate-inflow", daemon=True).start()
    return await result
