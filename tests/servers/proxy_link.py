"""One client connection of the proxy, and the upstream connection that serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from tests.servers.proxy_calls import Call, Head
from tests.servers.proxy_faults import (
    Answer,
    Cut,
    CutAnswer,
    CutBefore,
    Delay,
    Fault,
    FlipAnswerBit,
    FlipBit,
    LoseAnswer,
    flip,
)

if TYPE_CHECKING:
    from tests.servers.proxy import StoreProxy

SMALL = 64 * 1024
"""Bodies up to this many bytes are read whole and sent with their head: one write each way."""

LINGER = 10.0
"""Seconds for which a client may go on sending a body that the upstream has answered without reading it."""


class CutOff(ConnectionError):
    """The proxy breaks this connection on purpose."""


class Link:
    """Requests of one connection, one after another. `cut` may be called at any time."""

    BUFFER: ClassVar[int] = 256 * 1024

    def __init__(self, proxy: StoreProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.reader = reader
        self.writer = writer
        self.upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._broken = False
        self._continued = False

    async def run(self) -> None:
        try:
            # Either side may go away at any time; the finally clause passes that on to the other.
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._exchange():
                    pass
                await _flush(self.writer)
        finally:
            self.cut()

    def cut(self) -> None:
        """Break both connections at once."""
        self._broken = True
        self.writer.transport.abort()
        if self.upstream is not None:
            self.upstream[1].transport.abort()

    async def _exchange(self) -> bool:
        """One request and its answer. Answers whether the connection can carry another."""
        if (raw := await _read_head(self.reader)) is None:
            return False
        head = Head.parse(raw)
        call = self.proxy.begin(head)
        try:
            await self.proxy.run_hooks(call, "before")
            fault = self.proxy.fault_for(call)
            match fault:
                case CutBefore():
                    raise CutOff
                case Answer():
                    return await self._answer_itself(fault, call)
                case Delay():
                    await asyncio.sleep(fault.seconds)
                case _:
                    pass  # befalls the request or its answer on their way
            return await self._forward(call, fault)
        finally:
            self.proxy.end(call)

    async def _answer_itself(self, answer: Answer, call: Call) -> bool:
        closes = call.head.expects_continue
        if not closes:
            async for data, is_body in _body(self.reader, call.length):
                self.proxy.received(call, len(data) if is_body else 0)
        call.status = answer.status
        self.writer.write(answer.encoded(closes=closes, bodiless=call.method == "HEAD"))
        await self.writer.drain()
        return not closes

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._broken:
            raise CutOff
        if self.upstream is not None and (self.upstream[0].at_eof() or self.upstream[1].is_closing()):
            self.upstream[1].close()
            self.upstream = None
        if self.upstream is None:
            self.upstream = await asyncio.open_connection(*self.proxy.upstream, limit=self.BUFFER)
        return self.upstream

    async def _forward(self, call: Call, fault: Fault | None) -> bool:
        reader, writer = await self._dial()
        if call.length is not None and call.length <= SMALL and not call.head.expects_continue:
            body = await self.reader.readexactly(call.length)
            await self.proxy.pace(len(body))
            self.proxy.received(call, len(body))
            await self._send_small(call, fault, body, writer)
            return await self._answer(call, fault, reader)
        self._continued = not call.head.expects_continue
        writer.write(call.head.raw)
        pump = asyncio.create_task(self._pump(call, fault, writer))
        try:
            goes_on = await self._answer(call, fault, reader)
            return await self._linger(pump) and goes_on
        finally:
            pump.cancel()
            # The answer's side has already failed, or it is done: only a fault of the proxy itself is news.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await pump

    async def _send_small(self, call: Call, fault: Fault | None, body: bytes, writer: asyncio.StreamWriter) -> None:
        if isinstance(fault, Cut) and fault.after_bytes < len(body):
            writer.write(call.head.raw + body[: fault.after_bytes])
            await _flush(writer)  # the upstream sees a body that ends early
            raise CutOff
        if isinstance(fault, FlipBit):
            body = flip(body, 0, fault.at, len(body))
        writer.write(call.head.raw + body)
        await writer.drain()

    async def _linger(self, pump: asyncio.Task[None]) -> bool:
        """The answer is out. Let a client that still sends finish, as servers do, so that it reads the answer."""
        if pump.done():
            pump.result()
            return True
        if not self._continued:
            return False
        await asyncio.wait([pump], timeout=LINGER)
        return False

    async def _pump(self, call: Call, fault: Fault | None, writer: asyncio.StreamWriter) -> None:
        """The request's body to the upstream. A failure ends the upstream connection, which wakes the answer's side."""
        offset, listens = 0, True
        try:
            async for data, is_body in _body(self.reader, call.length, most=self.proxy.buffer):
                if is_body:
                    await self.proxy.pace(len(data))
                    self.proxy.received(call, len(data))
                    if isinstance(fault, Cut) and offset + len(data) > fault.after_bytes:
                        writer.write(data[: fault.after_bytes - offset])
                        await _flush(writer)
                        raise CutOff
                    if isinstance(fault, FlipBit):
                        data = flip(data, offset, fault.at, call.length)
                    offset += len(data)
                listens = listens and await _sent(writer, data)
        except BaseException:
            writer.close()
            raise

    async def _answer(self, call: Call, fault: Fault | None, upstream: asyncio.StreamReader) -> bool:
        while (reply := await _Reply.read(upstream, call.method)).status < 200:
            self._continued = True
            self.writer.write(reply.raw)
        if isinstance(fault, LoseAnswer):
            async for _ in reply.body(upstream):
                pass
            call.status = reply.status
            await self.proxy.run_hooks(call, "after")
            raise CutOff
        if reply.length is not None and reply.length <= SMALL and not isinstance(fault, (CutAnswer, FlipAnswerBit)):
            reply = await reply.whole(upstream)
        call.status = reply.status
        await self.proxy.run_hooks(call, "after")
        await self._relay(fault, upstream, reply)
        return not reply.head.closes and not call.head.closes and not reply.ends_the_connection

    async def _relay(self, fault: Fault | None, upstream: asyncio.StreamReader, reply: _Reply) -> None:
        self._to_client(reply.raw)
        offset = 0
        async for data, is_body in reply.body(upstream):
            if is_body and isinstance(fault, CutAnswer) and offset + len(data) > fault.after_bytes:
                self._to_client(data[: fault.after_bytes - offset])
                await _flush(self.writer)
                raise CutOff
            if is_body and isinstance(fault, FlipAnswerBit):
                data = flip(data, offset, fault.at, reply.length)
            offset += len(data) if is_body else 0
            self._to_client(data)
            await self.writer.drain()
        await self.writer.drain()

    def _to_client(self, data: bytes) -> None:
        """Write, unless the client has left in the middle of its answer."""
        if self.writer.is_closing():
            raise CutOff
        self.writer.write(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """An answer's head. `raw`: what is to be relayed at once. `length`: of the body that follows, None where it is
    chunked or ends with the connection.
    """

    raw: bytes
    head: Head
    status: int
    length: int | None

    @classmethod
    async def read(cls, upstream: asyncio.StreamReader, method: str) -> _Reply:
        if (raw := await _read_head(upstream)) is None:
            raise CutOff
        status = int(raw.split(b" ", 2)[1])
        head = Head.parse(b"ANSWER / " + raw)
        if method == "HEAD" or status < 200 or status in (204, 304):
            length: int | None = 0
        else:
            length = head.length if "content-length" in head.headers else None
        return cls(raw=raw, head=head, status=status, length=length)

    @property
    def ends_the_connection(self) -> bool:
        return self.length is None and self.head.length is not None

    def body(self, upstream: asyncio.StreamReader) -> AsyncIterator[tuple[bytes, bool]]:
        return _body(upstream, self.length, until_end=self.ends_the_connection)

    async def whole(self, upstream: asyncio.StreamReader) -> _Reply:
        """Head and body as one, to be relayed in one write."""
        return replace(self, raw=self.raw + await upstream.readexactly(self.length or 0), length=0)


async def _read_head(reader: asyncio.StreamReader) -> bytes | None:
    """The bytes of a head; None when the connection ended between two messages."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None


async def _flush(writer: asyncio.StreamWriter) -> None:
    """Wait until everything has left: an abort that follows drops nothing."""
    if writer.is_closing():
        return
    writer.transport.set_write_buffer_limits(high=0)
    await writer.drain()


async def _sent(writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Send; answers False when the upstream has stopped listening: it has answered early, and the rest is drained."""
    if writer.is_closing():
        return False
    try:
        writer.write(data)
        await writer.drain()
    except ConnectionError:
        return False
    return True


async def _body(
    reader: asyncio.StreamReader, length: int | None, *, until_end: bool = False, most: int = Link.BUFFER
) -> AsyncIterator[tuple[bytes, bool]]:
    """The pieces of a body as they are on the wire, each with whether it is content (or a chunk's framing)."""
    if until_end:
        while data := await reader.read(Link.BUFFER):
            yield data, True
    elif length is not None:
        async for data in _exactly(reader, length, most):
            yield data, True
    else:
        while True:
            line = await reader.readuntil(b"\r\n")
            yield line, False
            size = int(line.split(b";")[0], 16)
            async for data in _exactly(reader, size, most):
                yield data, True
            if size == 0:
                break
            yield await reader.readexactly(2), False
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            yield line, False
        yield line, False


async def _exactly(reader: asyncio.StreamReader, length: int, most: int) -> AsyncIterator[bytes]:
    left = length
    while left:
        data = await reader.read(min(left, most))
        if not data:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(data)
        yield data
