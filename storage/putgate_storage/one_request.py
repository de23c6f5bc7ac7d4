"""An HTTP session that sends each request once, to where it was aimed.

aiohttp by itself sends an idempotent request a second time when a kept-alive connection turns out to be dead, and
follows redirects. The first would make a conditional write fail against its own success, and the second would hand
a body and a session token to whomever a redirect names.
"""

from __future__ import annotations

from typing import Any

import aiohttp


class OneRequest:
    """The part of `aiohttp.ClientSession` that is used here, with neither of its own repetitions."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        # There is no public switch; a test holds aiohttp to this one.
        session._retry_connection = False  # noqa: SLF001
        self._session = session

    def request(self, method: str, url: Any, **options: Any) -> Any:
        return self._session.request(method, url, **(options | {"allow_redirects": False}))
