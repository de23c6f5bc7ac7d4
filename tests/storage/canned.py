"""A store that answers what a test tells it to: for answers that no real one gives on demand."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(frozen=True, slots=True, kw_only=True)
class Canned:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    """Close the connection instead of answering."""


Answers = Callable[[web.Request], Canned]


def error(status: int, code: str, **headers: str) -> Canned:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>hush-message</Message></Error>'
    return Canned(status=status, body=body.encode(), headers={k.replace("_", "-"): v for k, v in headers.items()})


@contextlib.asynccontextmanager
async def canned_store(answers: Answers) -> AsyncIterator[str]:
    """Its endpoint."""

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = answers(request)
        await request.read()
        if answer.cut:
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    async with _serving(app) as endpoint:
        yield endpoint


@contextlib.asynccontextmanager
async def truncating_store(headers: Mapping[str, str]) -> AsyncIterator[str]:
    """Promises 100 bytes of body, sends ten and goes away."""

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={**headers, "Content-Length": "100"})
        await answer.prepare(request)
        await answer.write(b"x" * 10)
        assert request.transport is not None
        request.transport.close()
        return answer

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    async with _serving(app) as endpoint:
        yield endpoint


@contextlib.asynccontextmanager
async def _serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
