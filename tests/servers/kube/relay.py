"""The wire between one client and the API server, which a test can cut: bytes go through unread, TLS and all.

It cuts as networks do. In a *black hole* the client's packets are dropped before TCP sees them, by a socket filter: so
its kernel knows that nothing has arrived, and sends all of it again, be it that the client has given up meanwhile. A
*refusal* resets what is open and lets nothing new in.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PIECE = 64 * 1024

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
"""Of asm-generic/socket.h; the socket module does not name them."""

ALL = 0
"""Every packet has more bytes than this."""


class Relay:
    """`with Relay(port) as relay:` a way from `relay.port` to `port`, both on 127.0.0.1, in a thread of its own."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay")
        self._listener = _listener(0)
        self.port: int = self._listener.getsockname()[1]
        self._accepting: asyncio.Task[None] | None = None
        self._joined: set[asyncio.Task[None]] = set()
        self._clients: set[socket.socket] = set()
        self._lost: int | None = None
        """Packets of more bytes are dropped."""
        self._answering = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    # What tests do

    def swallow(self) -> None:
        """A black hole: connections stay open and nothing comes through; new ones hang."""
        self._do(self._drop(ALL))

    def swallow_large(self, size: int) -> None:
        """Only the client's packets of more than `size` bytes are lost, as where a link takes no large ones."""
        self._do(self._drop(size))

    def refuse(self) -> None:
        """Reset every connection, and let no new one in."""
        self._do(self._close())

    def heal(self) -> None:
        self._do(self._open())

    def on_the_way(self) -> int:
        """How many bytes clients' kernels keep to send them again, also for connections that are closed already."""
        rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        here = f"0100007F:{self.port:04X}"
        return sum(int(row[4].partition(":")[0], 16) for row in rows if row[2] == here)

    # In the relay's thread

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _open(self) -> None:
        if self._lost is not None:
            self._lost = None
            for each in (self._listener, *self._clients):
                each.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        self._answering.set()
        if self._accepting is None:
            if self._listener.fileno() < 0:
                self._listener = _listener(self.port)
            self._accepting = asyncio.create_task(self._accept())

    async def _drop(self, size: int) -> None:
        self._lost = size
        for each in (self._listener, *self._clients):
            _drop_packets(each, size)
        if size == ALL:
            self._answering.clear()

    async def _close(self) -> None:
        tasks = [*self._joined, *([self._accepting] if self._accepting is not None else [])]
        self._accepting = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            if self._lost is not None:
                _drop_packets(client, self._lost)
            self._clients.add(client)
            task = asyncio.create_task(self._join(client))
            self._joined.add(task)
            task.add_done_callback(self._joined.discard)

    async def _join(self, client: socket.socket) -> None:
        """Until both sides have ended, or either has reset the connection: then the other is reset too."""
        server = socket.socket()
        try:
            client.setblocking(False)
            server.setblocking(False)
            await self._loop.sock_connect(server, ("127.0.0.1", self._target))
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pump(client, server, there=True))
                ways.create_task(self._pump(server, client, there=False))
        except* (OSError, asyncio.CancelledError):
            for each in (client, server):
                # Closed, it is reset, and what has not been sent is not.
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        finally:
            self._clients.discard(client)
            client.close()
            server.close()

    async def _pump(self, source: socket.socket, sink: socket.socket, *, there: bool) -> None:
        while True:
            data = await self._loop.sock_recv(source, PIECE)
            if not there:
                await self._answering.wait()
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            await self._loop.sock_sendall(sink, data)


def _drop_packets(sock: socket.socket, size: int) -> None:
    """Let no packet of more than `size` bytes reach it; with 0, not even an acknowledgement. By a program for classic
    BPF: load the length; if it is greater, return 0, the bytes to keep; else all.
    """
    steps = ((0x80, 0, 0, 0), (0x25, 0, 1, size), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HP", len(steps), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def _listener(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(1024)
    listener.setblocking(False)
    return listener
