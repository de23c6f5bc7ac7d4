"""TCP through a Unix socket: the one way between the network namespaces, since a socket's path leads through both.

Each side has a gate, a Unix socket that answers one JSON request a connection: `connect` joins the connection to an
address on the gate's side; other verbs hold for as long as their connection stays open, so what a test asked for ends
with the test, even when it is killed. Nothing here looks into the bytes.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[], Awaitable[Streams]]
Verb = Callable[[Any], Awaitable[tuple[Any, Callable[[], Awaitable[None]]]]]
"""Takes the request's value; gives the answer, and what undoes it when the connection ends."""

BUFFER = 256 * 1024
DIAL_WITHIN = 10.0


class Refused(ConnectionError):
    """The other side could not, or would not."""


async def serve_gate(path: Path, verbs: dict[str, Verb]) -> asyncio.Server:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            (verb, value), *rest = json.loads(await reader.readuntil()).items()
            assert not rest, "one request a connection"
            if verb == "connect":
                await _connect(value, reader, writer)
            else:
                await _hold(verbs[verb], value, reader, writer)
        writer.close()

    return await asyncio.start_unix_server(connected, path)


async def _connect(value: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(DIAL_WITHIN):
            other = await asyncio.open_connection(*split(value))
    except OSError as error:
        _answer(writer, {"error": f"{value}: {error.strerror or 'no answer'}"})
        return
    _answer(writer, {"ok": value})
    await pipe((reader, writer), other)


async def _hold(verb: Verb, value: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        result, undo = await verb(value)
    except (ValueError, OSError) as error:
        _answer(writer, {"error": str(error)})
        return
    try:
        _answer(writer, {"ok": result})
        await reader.read()
    finally:
        await undo()


def _answer(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")


async def through(gate: Path, address: str) -> Streams:
    """A connection to `address` on the side of `gate`."""
    reader, writer = await asyncio.open_unix_connection(gate)
    writer.write(json.dumps({"connect": address}).encode() + b"\n")
    try:
        answer = json.loads(await reader.readuntil())
    except asyncio.IncompleteReadError:
        answer = {"error": f"{address}: the gate has closed"}
    if "error" in answer:
        writer.close()
        raise Refused(answer["error"])
    return reader, writer


class Forwarder:
    """Listens, and joins every connection to what `dial` gives; where that fails, the connection is reset.

    It accepts by itself: a task or a server of asyncio's that ends can lose a connection that it has just accepted,
    and its client would wait for good.
    """

    def __init__(self, listener: socket.socket, dial: Dial) -> None:
        self._listener, self._dial = listener, dial
        self._joined: set[asyncio.Task[None]] = set()
        asyncio.get_running_loop().add_reader(listener, self._accept)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Listen no longer. Open connections live on."""
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            task = asyncio.create_task(self._join(connection))
            self._joined.add(task)
            task.add_done_callback(self._joined.discard)

    async def _join(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            other = await self._dial()
        except OSError:
            writer.transport.abort()
            return
        await pipe((reader, writer), other)


def forward(host: str, port: int, dial: Dial) -> Forwarder:
    """A forwarder on an address that is this side's; port 0 is any."""
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return Forwarder(listener, dial)


async def pipe(one: Streams, other: Streams) -> None:
    """Both ways, until both have ended. A reset on one side is a reset on the other."""
    ways = [asyncio.create_task(_pump(one[0], other[1])), asyncio.create_task(_pump(other[0], one[1]))]
    try:
        await asyncio.gather(*ways)
        for _, writer in (one, other):
            writer.close()
    except (OSError, asyncio.CancelledError) as error:
        for _, writer in (one, other):
            writer.transport.abort()
        if isinstance(error, asyncio.CancelledError):
            raise
    finally:
        for way in ways:
            way.cancel()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(BUFFER):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
