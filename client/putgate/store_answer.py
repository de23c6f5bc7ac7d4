"""What a store answers to a signed request, and whether it may answer otherwise later."""

from __future__ import annotations

import re
from dataclasses import dataclass

import aiohttp

_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,64})</Code>")

_OUTDATED = frozenset({"ExpiredToken", "TokenRefreshRequired", "InvalidAccessKeyId"})


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """The store's answer to a signed request. `code`: its own error code, where it gave one. `retry_after`: seconds
    that it asks to wait.
    """

    status: int
    code: str
    retry_after: float | None = None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def outdated(self) -> bool:
        """The credentials that signed it hold no more. The server gets others without anybody's help, but not at once,
        and what it signs with those is good: this passes, unlike other refusals.
        """
        return self.code in _OUTDATED

    @property
    def passes(self) -> bool:
        """The same, or what is signed anew for it, may be taken later."""
        return self.outdated or self.status in (408, 429) or self.status >= 500

    def __str__(self) -> str:
        return f"HTTP {self.status} {self.code}".rstrip()


async def store_answer(response: aiohttp.ClientResponse) -> StoreAnswer:
    """Reads as much of the body as is needed."""
    if 200 <= response.status < 300:
        await response.read()
        return StoreAnswer(response.status, "")
    found = _CODE.search(await response.content.read(4096))
    asked = response.headers.get("Retry-After", "")
    return StoreAnswer(
        response.status,
        found[1].decode() if found else "",
        # Its other form, a date, is not used by stores.
        float(asked) if asked.isascii() and asked.isdigit() else None,
    )
