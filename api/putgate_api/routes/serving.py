"""What the routes serve, once it is there: the bucket is prepared while the port is open already."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from putgate_api import call_log
from putgate_api.auth.authenticate import Authenticator
from putgate_api.auth.caller import Caller
from putgate_api.prepare.status import Status
from putgate_api.rates import Rates
from putgate_api.routes.shedding import ROOM, announced
from putgate_api.uploads.bucket import Bucket
from putgate_protocol.problems import problem


class Serving:
    """Filled in by composition. Until `prepared` is set calls are `not_ready`; while draining, those that still
    arrive are answered, and `ready` says that no more should.

    `keys_missing`: which upload keys are not loaded, or None. All of them have to be there once: from then on each
    call tells by itself whether it has what it needs. `rates`: how often one caller may call.
    """

    def __init__(
        self, authenticator: Authenticator, status: Status, keys_missing: Callable[[], str | None] = lambda: None
    ) -> None:
        self.rates: Rates | None = None
        self._authenticator = authenticator
        self._status = status
        self._keys_missing = keys_missing
        self._keys_seen = False
        self._callers_known = False
        self.prepared: Bucket | None = None
        self.draining = False
        self._port_closed: str | None = None

    @property
    def ready(self) -> bool:
        return (
            self.prepared is not None
            and not self.draining
            and self._port_closed is None
            and self._keys_wanted() is None
            and self._callers_wanted() is None
        )

    @property
    def why_unready(self) -> str:
        """What is missing, for who looks at the admin port."""
        if self.draining:
            return "draining"
        return self._port_closed or self._keys_wanted() or self._callers_wanted() or self._status.waiting_for

    def _keys_wanted(self) -> str | None:
        missing = None if self._keys_seen else self._keys_missing()
        self._keys_seen = missing is None
        return missing

    def _callers_wanted(self) -> str | None:
        """Callers have to be told apart once: a rollout must not replace those who can by those who never could."""
        if not self._callers_known:
            found = self._authenticator.condition()
            self._callers_known = found.status == "True"
            return None if self._callers_known else found.message
        return None

    def port_closed(self, why: str | None) -> None:
        """The API's port is closed, or (`None`) open."""
        self._port_closed = why

    @property
    def closed_port(self) -> str | None:
        """Why the API's port is closed, or None."""
        return self._port_closed

    @property
    def bucket(self) -> Bucket:
        """Raises `not_ready`."""
        if self.prepared is None:
            raise problem("not_ready", "the server is starting", retry_after=1)
        return self.prepared

    async def caller(self, request: web.Request) -> Caller:
        """Who sent this request, for whom there is room. Raises `unauthenticated`, `rate_limited`, `not_ready`."""
        caller = await self._authenticator.authenticate(request.headers.get("Authorization"))
        call_log.caller(caller.subject)
        if self.rates is not None:
            self.rates.admit(caller.owner)
        if (room := request.get(ROOM)) is not None:
            room.take(caller.owner, announced(request))
        return caller
