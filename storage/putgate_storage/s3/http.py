"""aiobotocore's HTTP session without what it, or aiohttp below it, would send a second time or elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession

from putgate_storage.one_request import OneRequest

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client


_sessions: Callable[..., Awaitable[aiohttp.ClientSession]] = vars(AIOHTTPSession)["_get_session"]
"""How aiobotocore makes its aiohttp sessions; its type stubs do not know of it."""


class OneRequestSession(AIOHTTPSession):
    async def _get_session(self, proxy_url: str | None) -> OneRequest:
        return OneRequest(await _sessions(self, proxy_url))


def never_redirect(client: S3Client) -> None:
    """Keep botocore from sending a call again to the region that an error names: URLs are signed for one region, so
    a wrong one has to be told, not worked around.
    """
    client.meta.events.register_last("before-parameter-build.s3", _mark_redirected)


def _mark_redirected(context: dict[str, Any], **_: object) -> None:
    context["s3_redirect"] = {**context.get("s3_redirect", {}), "redirected": True}
