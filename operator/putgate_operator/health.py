"""The operator's own port: alive, ready, metrics. Never routed to users."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST


@asynccontextmanager
async def serving(
    port: int, registry: CollectorRegistry, why_not_ready: Callable[[], str | None]
) -> AsyncIterator[None]:
    """`/healthz` answers while the event loop runs; `/readyz` says why not, if it does not."""

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        why = why_not_ready()
        return web.Response(text=f"{why or 'ok'}\n", status=503 if why else 200)

    async def metrics(_: web.Request) -> web.Response:
        # In this thread: some gauges ask the event loop for its time.
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", health), web.get("/readyz", ready), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, None, port).start()
        yield
    finally:
        await runner.cleanup()
