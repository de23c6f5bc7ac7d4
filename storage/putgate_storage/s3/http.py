"""aiobotocore's HTTP session without what it, or aiohttp below it, would send a second time or elsewhere.

It also notices a CA bundle that was replaced, which aiobotocore reads only once.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession

from putgate_storage.one_request import OneRequest
from putgate_storage.s3.trust import Bundle

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_LOOK_EVERY = 1.0
"""Seconds between two looks at the CA bundle: a stat each, and how long a store's new certificate is refused."""

_sessions: Callable[..., Awaitable[aiohttp.ClientSession]] = vars(AIOHTTPSession)["_get_session"]
"""How aiobotocore makes its aiohttp sessions; its type stubs do not know of it."""

_verify_context: Callable[..., ssl.SSLContext] = vars(AIOHTTPSession)["_build_verify_context"]
"""How aiobotocore makes what it checks certificates by."""


class OneRequestSession(AIOHTTPSession):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        verify = options.get("verify")
        self._bundle = Bundle(Path(verify)) if isinstance(verify, str) else None
        self._contexts: list[ssl.SSLContext] = []
        self._next_look = 0.0

    def _build_verify_context(self) -> ssl.SSLContext:
        context = _verify_context(self)
        self._contexts.append(context)
        return context

    async def _get_session(self, proxy_url: str | None) -> OneRequest:
        if self._bundle is not None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_EVERY
            for context in self._contexts:
                self._bundle.refresh(context)
        return OneRequest(await _sessions(self, proxy_url))


def never_redirect(client: S3Client) -> None:
    """Keep botocore from sending a call again to the region that an error names: URLs are signed for one region, so
    a wrong one has to be told, not worked around.
    """
    client.meta.events.register_last("before-parameter-build.s3", _mark_redirected)


def _mark_redirected(context: dict[str, Any], **_: object) -> None:
    context["s3_redirect"] = {**context.get("s3_redirect", {}), "redirected": True}
