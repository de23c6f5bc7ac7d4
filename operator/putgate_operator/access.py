"""Whether the operator may read what it watches. Otherwise a replica would stand ready and see nothing, and an upgrade
would replace those that work by those that do not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import structlog

from putgate_operator.api_server import ApiServer
from putgate_operator.errors import OperatorError
from putgate_operator.kinds import UPLOAD_BUCKET, WATCHED

_AGAIN = 5.0
"""Seconds. A role that comes after the operator, as with some ways to install, is noticed as soon."""

log = structlog.get_logger("putgate.operator")


class Access:
    """Tried once, until it is had. `why_not`: what cannot be read."""

    def __init__(self, server: ApiServer, namespaces: Collection[str]) -> None:
        self._server = server
        self._namespaces = namespaces
        self.why_not: str | None = "what may be read has not been tried yet"

    async def prove(self) -> None:
        while True:
            try:
                for namespace in self._namespaces or (None,):
                    for kind in (UPLOAD_BUCKET, *WATCHED):
                        await self._server.look(kind, namespace)
            except OperatorError as error:
                self.why_not = str(error)
                log.warning("the cluster cannot be read", code=error.code, reason=self.why_not, again_in=_AGAIN)
                await asyncio.sleep(_AGAIN)
            else:
                self.why_not = None
                return
