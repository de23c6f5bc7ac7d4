"""The API's own port: opened at once, or, where TLS is wanted and its files are missing, when they appear.

It is never opened without the TLS that was asked for. The admin port is another matter: it is open all along, and says
what this one waits for.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from putgate_api.tls import LOOK_EVERY, ServerTls
from putgate_protocol.settings.api import Listen

log = structlog.get_logger("putgate.api")

RECEIVE_BUFFER = 32 * 1024
"""Bytes of a connection that the kernel keeps, and so the most that one read takes into memory before a call is judged:
with uvloop up to 256 KiB of each of a thousand connections otherwise. Smaller, and large batches from afar crawl."""

Closed = Callable[[str | None], None]
"""Hears why the port is closed; `None` when it is open."""


async def listen_on(runner: web.AppRunner, host: str, port: int, tls: ssl.SSLContext | None = None) -> str:
    """Listen, and give the URL. Raises `OSError`."""
    await runner.setup()
    for listening in await _sockets(host, port):
        await web.SockSite(runner, listening, ssl_context=tls).start()
    bound = runner.addresses[0]
    return _url("http" if tls is None else "https", bound[0], bound[1])


async def _sockets(host: str, port: int) -> list[socket.socket]:
    """One for each address of `host`. Raises `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listening: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            listening.append(socket.create_server(address[:2], family=family))
            listening[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    except OSError:
        for each in listening:
            each.close()
        raise
    return listening


@asynccontextmanager
async def api_port(runner: web.AppRunner, listen: Listen, closed: Closed) -> AsyncIterator[str]:
    """The port while the context lasts; gives the URL that it has, or will have. Raises `OSError`."""
    if listen.tls is None:
        yield await listen_on(runner, listen.host, listen.port)
        return
    tls = ServerTls(cert_file=listen.tls.cert_file, key_file=listen.tls.key_file)
    if tls.look():
        url = await listen_on(runner, listen.host, listen.port, tls.context)
    else:
        url = _url("https", listen.host, listen.port)
        closed(f"SecretMissing: {tls.failure}")
    following = asyncio.create_task(_follow(runner, listen, tls, closed))
    try:
        yield url
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _follow(runner: web.AppRunner, listen: Listen, tls: ServerTls, closed: Closed) -> None:
    """Open the port if it is not open yet, then keep its certificate."""
    if not tls.loaded:
        while not tls.look():
            closed(f"SecretMissing: {tls.failure}")
            await asyncio.sleep(LOOK_EVERY)
        await _open(runner, listen, tls, closed)
    await tls.keep()


async def _open(runner: web.AppRunner, listen: Listen, tls: ServerTls, closed: Closed) -> None:
    """Until it works: what has the port now may give it back."""
    told = ""
    while True:
        try:
            url = await listen_on(runner, listen.host, listen.port, tls.context)
        except OSError as error:
            why = error.strerror or str(error)
            closed(f"cannot listen on {listen.host}:{listen.port}: {why}")
            if why != told:
                log.error("cannot listen", host=listen.host, port=listen.port, reason=why)  # noqa: TRY400 - no defect
            told = why
            await asyncio.sleep(LOOK_EVERY)
        else:
            closed(None)
            log.info("listening with TLS", url=url)
            return


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
