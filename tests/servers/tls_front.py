"""TLS in front of a server that has none: every byte of a connection is passed on as it is, in both directions."""

from __future__ import annotations

import asyncio
import ssl
import threading
from pathlib import Path
from typing import Self, cast
from urllib.parse import urlsplit

from tests.servers.certificates import Authority


class TlsFront:
    """`with TlsFront("http://127.0.0.1:8333", authority, folder) as front:` and use `front.url`. Runs in a thread."""

    def __init__(self, upstream: str, authority: Authority, folder: Path) -> None:
        self._upstream = urlsplit(upstream)
        certificate, key = authority.issue()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "front.crt").write_bytes(certificate)
        (folder / "front.key").write_bytes(key)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(folder / "front.crt", folder / "front.key")
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._started = threading.Event()
        self._ends = _Ends()
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(self._accepted, "127.0.0.1", 0, ssl=self._context)
        self.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._stop.wait()
        server.close()
        await self._ends.all_closed()

    def _accepted(self) -> asyncio.Protocol:
        near, far = _End(self._ends), _End(self._ends)
        near.other, far.other = far, near
        near.dial = lambda: self._loop.create_connection(lambda: far, self._upstream.hostname, self._upstream.port)
        return near


class _Ends:
    """The open ends of all connections."""

    def __init__(self) -> None:
        self.open: set[_End] = set()
        self.dialling: set[asyncio.Task[object]] = set()

    async def all_closed(self) -> None:
        await asyncio.gather(*self.dialling, return_exceptions=True)
        while self.open:
            for end in list(self.open):
                end.transport.abort()
            # Each `connection_lost` is called by the loop, soon.
            await asyncio.sleep(0)


class _End(asyncio.Protocol):
    """One end of a connection. What arrives before the other end is there is kept for it."""

    transport: asyncio.WriteTransport
    other: _End

    def __init__(self, ends: _Ends) -> None:
        self._ends = ends
        self._waiting: list[bytes] = []
        self._ready = False
        self.dial: object = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)
        self._ready = True
        self._ends.open.add(self)
        if callable(self.dial):
            task = asyncio.ensure_future(self.dial())
            self._ends.dialling.add(task)
            task.add_done_callback(self._dialled)
        for data in self._waiting:
            self.transport.write(data)
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        self.other.take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ends.open.discard(self)
        if self.other in self._ends.open:
            self.other.transport.close()

    def take(self, data: bytes) -> None:
        if self._ready:
            self.transport.write(data)
        else:
            self._waiting.append(data)

    def _dialled(self, task: asyncio.Task[object]) -> None:
        self._ends.dialling.discard(task)
        if task.cancelled() or task.exception() is not None or self not in self._ends.open:
            # One of the two is gone: so is the other.
            for end in (self, self.other):
                if end in self._ends.open:
                    end.transport.abort()
