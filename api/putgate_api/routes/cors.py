"""CORS: what browsers are told of pages from other origins. It grants nothing: a page calls with a token, like anybody.

Credentials in the browser's sense (cookies) are never allowed; a token is a header that a page sends on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from putgate_protocol.messages.files import HEADER_FILE_HASH, HEADER_PART_SIZE, HEADER_SIZE, HEADER_VERSION
from putgate_protocol.problems import HEADER_CODE, HEADER_REQUEST_ID

METHODS = ("GET", "HEAD", "POST", "DELETE")
SENT = ("Authorization", "Content-Type", "If-Match", "If-None-Match", HEADER_REQUEST_ID)
EXPOSED = (
    "ETag",
    "Retry-After",
    "WWW-Authenticate",
    HEADER_CODE,
    HEADER_FILE_HASH,
    HEADER_PART_SIZE,
    HEADER_REQUEST_ID,
    HEADER_SIZE,
    HEADER_VERSION,
)

MAX_AGE = 7200
"""Seconds for which a browser need not ask again; the most that Chromium keeps. Too long, and an origin that was taken
away goes on for as long.
"""


def add_cors(app: web.Application, origins: Sequence[str]) -> None:
    """Answer preflights and mark answers, for pages of these origins (`*`: of all). Without any nothing is added."""
    if not origins:
        return

    async def mark(request: web.Request, response: web.StreamResponse) -> None:
        if "*" in origins:
            response.headers["Access-Control-Allow-Origin"] = "*"
        else:
            # A cache must not give one origin what was said to another.
            response.headers.add("Vary", "Origin")
            origin = request.headers.get("Origin", "")
            if origin not in origins:
                return
            response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = ", ".join(EXPOSED)

    async def preflight(_: web.Request) -> web.Response:
        # Without the origin's name, which `mark` gives to those that are allowed, a browser ignores these.
        headers = {
            "Access-Control-Allow-Methods": ", ".join(METHODS),
            "Access-Control-Allow-Headers": ", ".join(SENT),
            "Access-Control-Max-Age": str(MAX_AGE),
        }
        return web.Response(status=204, headers=headers)

    app.on_response_prepare.append(mark)
    # A path may hold a line feed, which `.` would not match.
    app.router.add_route("OPTIONS", r"/{path:[\s\S]*}", preflight, name="preflight")
