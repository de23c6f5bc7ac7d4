"""How the probe's requests reach the store: over HTTP as any holder's would, or into a store in memory."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Protocol

import aiohttp
from yarl import URL

from putgate_storage.errors import Transient
from putgate_storage.one_request import OneRequest
from putgate_storage.store import SignedRequest

_TIMEOUT = aiohttp.ClientTimeout(total=20)
"""Per request; all bodies are tiny. Too small: a slow store is inconclusive; too big: a dead one holds the start."""

_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Sender(Protocol):
    async def send(self, request: SignedRequest, body: bytes, extra: Mapping[str, str] | None = None) -> int:
        """Send the request with `extra` headers beside (or instead of) its own: the HTTP status. Raises
        `Transient` where there is no answer.
        """
        ...


class HttpSender:
    """Exactly the request's method, URL and headers: nothing re-encoded, nothing added."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = OneRequest(http)

    async def send(self, request: SignedRequest, body: bytes, extra: Mapping[str, str] | None = None) -> int:
        try:
            async with self._http.request(
                request.method,
                URL(request.url, encoded=True),
                headers={**request.headers, **(extra or {})},
                # Of known length, and without aiohttp's warning about large bytes.
                data=io.BytesIO(body),
                skip_auto_headers=_AUTOMATIC,
                timeout=_TIMEOUT,
            ) as answer:
                await answer.read()
                return int(answer.status)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            name = type(error).__name__
            raise Transient(f"no answer to a signed {request.method}: {name}", code=name) from None
