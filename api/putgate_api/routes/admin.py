"""The admin port: health, readiness, the report, metrics. Never routed to users, so it asks for no credentials."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from putgate_api.metrics import Metrics
from putgate_api.routes.serving import Serving
from putgate_protocol.report import Report


def admin_app(serving: Serving, metrics: Metrics, report: Callable[[], Report]) -> web.Application:
    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if serving.ready:
            return web.Response(text="ready\n")
        return web.Response(text=f"{serving.why_unready}\n", status=503)

    async def show_report(_: web.Request) -> web.Response:
        return web.Response(body=report().model_dump_json(), content_type="application/json")

    async def show_metrics(_: web.Request) -> web.Response:
        metrics.ready.set(1 if serving.ready else 0)
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/report", show_report)
    app.router.add_get("/metrics", show_metrics)
    return app
