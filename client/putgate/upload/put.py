"""One signed part: sends exactly what was signed, once. What an answer means for the upload is decided elsewhere.

No header is added, no URL is re-encoded, no redirect followed, nothing is chunked: a signature binds all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from putgate.errors import ClientError, Unreachable
from putgate.store_answer import StoreAnswer, store_answer
from putgate.upload.source import Reading
from putgate.wire import reason
from putgate_protocol.messages.base import SignedPart
from putgate_protocol.parts import MIB, Part

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

READ = MIB
"""Bytes read from the source at once."""

WRITE = MIB // 4
"""Bytes handed to the connection at once; what it cannot send yet is copied, so this bounds memory per PUT."""

INLINE = 64 * 1024
"""A body up to this many bytes is read at once and goes out together with its headers."""

_UNSENT = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Sender:
    """Sends parts over one session. `silence`: seconds without a byte taken or an answer until it gives up."""

    def __init__(self, session: aiohttp.ClientSession, pool: Executor, silence: float) -> None:
        self._session = session
        self._pool = pool
        self._silence = silence

    async def put(
        self, signed: SignedPart, reading: Reading, part: Part, on_bytes: Callable[[int], None]
    ) -> StoreAnswer:
        """Send the part's bytes. `on_bytes` hears of bytes as they go, and of as many taken back if the PUT fails.

        Raises `Unreachable` when no answer came, `SourceChanged` and `OSError` when the source could not be read.
        """
        body = Body(reading, part, self._pool, self._silence, on_bytes)
        try:
            async with self._session.request(
                signed.method,
                URL(signed.url, encoded=True),
                data=body,
                headers=signed.headers,
                skip_auto_headers=_UNSENT,
                allow_redirects=False,
            ) as response:
                answer = await store_answer(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            body.take_back()
            if body.failure is not None:
                raise body.failure from None
            raise Unreachable(f"{_host(signed.url)}: {reason(error)}") from None
        except BaseException:
            body.take_back()
            raise
        if not answer.ok:
            body.take_back()
        return answer


class Body(aiohttp.Payload):
    """A part's bytes, read as they are sent; may be written again on another connection."""

    _autoclose = True

    def __init__(
        self, reading: Reading, part: Part, pool: Executor, silence: float, on_bytes: Callable[[int], None]
    ) -> None:
        super().__init__(None, content_type=None)
        self._size = part.length
        self._reading = reading
        self._part = part
        self._pool = pool
        self._silence = silence
        self._on_bytes = on_bytes
        self._told = 0
        self.failure: Exception | None = None

    async def write(self, writer: AbstractStreamWriter) -> None:
        self.take_back()
        try:
            if self._part.length <= INLINE:
                data = self._reading.pread(self._part.length, self._part.offset)
                await writer.write(data)
                self._tell(len(data))
                return
            end = self._part.offset + self._part.length
            for offset in range(self._part.offset, end, READ):
                await self._write_chunk(writer, offset, min(READ, end - offset))
        except (ClientError, OSError) as error:
            # aiohttp wraps what a body raises; the sender looks here for the truth. A connection's own errors are
            # OSErrors as well, and stay what they are.
            if not isinstance(error, ConnectionError | TimeoutError):
                self.failure = error
            raise

    async def _write_chunk(self, writer: AbstractStreamWriter, offset: int, length: int) -> None:
        loop = asyncio.get_running_loop()
        data = memoryview(await loop.run_in_executor(self._pool, self._reading.pread, length, offset))
        for at in range(0, length, WRITE):
            piece = data[at : at + WRITE]
            async with asyncio.timeout(self._silence):
                await writer.write(piece)
            self._tell(len(piece))

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """The length is the part's; there is no other."""
        await self.write(writer)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a part is bytes, not text")

    def take_back(self) -> None:
        """What was told as sent was not taken."""
        told, self._told = self._told, 0
        if told:
            self._on_bytes(-told)

    def _tell(self, count: int) -> None:
        self._told += count
        self._on_bytes(count)


def _host(url: str) -> str:
    """The part of a signed URL that may be shown."""
    return str(URL(url, encoded=True).origin())
