"""A front that gives a server a path, as reverse proxies do: `/some/path/object/…` becomes `/object/…`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import yarl
from aiohttp import web

_OWN = frozenset({"connection", "transfer-encoding", "content-length", "host"})


@asynccontextmanager
async def below(path: str, upstream: str) -> AsyncIterator[str]:
    """The front's URL, with `path`; what lies elsewhere is 404, so that a wrong link shows."""

    async def passed_on(request: web.Request) -> web.Response:
        rest = request.raw_path.removeprefix(path)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OWN}
        async with session.request(
            request.method,
            yarl.URL(upstream + rest, encoded=True),
            headers=headers,
            data=await request.read(),
            allow_redirects=False,
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OWN}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())

    app = web.Application()
    app.router.add_route("*", path + "/{rest:.*}", passed_on)
    runner = web.AppRunner(app)
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
        finally:
            await runner.cleanup()
