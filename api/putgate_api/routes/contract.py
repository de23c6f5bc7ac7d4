"""`/openapi.json` and `/docs`: what this API is, for whoever asks, without a token. Made once, at start."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from aiohttp import web

from putgate_api.contract.document import DEFAULT_SERVER, document, text
from putgate_api.contract.page import page, security_policy

_CACHED = {"Cache-Control": "public, no-cache", "X-Content-Type-Options": "nosniff"}
"""Asked for again each time, and not sent again while it is the same: a new version shows at once."""


def add_contract_routes(app: web.Application, public_url: str | None) -> None:
    """`public_url`: where clients reach this API; without it the document's own place is."""
    described = document((public_url or DEFAULT_SERVER).rstrip("/") or DEFAULT_SERVER)
    html = page(described)
    policy = {"Content-Security-Policy": security_policy(html), "Referrer-Policy": "no-referrer"}
    app.router.add_get("/openapi.json", _fixed(text(described), "application/json"), name="openapi")
    app.router.add_get("/docs", _fixed(html, "text/html", policy), name="docs")


def _fixed(
    body: str, content_type: str, headers: dict[str, str] | None = None
) -> Callable[[web.Request], Awaitable[web.Response]]:
    etag = hashlib.sha256(body.encode()).hexdigest()[:16]
    always = {**_CACHED, **(headers or {}), "ETag": f'"{etag}"'}

    async def show(request: web.Request) -> web.Response:
        if any(known.value in {etag, "*"} for known in request.if_none_match or ()):
            return web.Response(status=304, headers=always)
        return web.Response(text=body, content_type=content_type, charset="utf-8", headers=always)

    return show
