"""What the routes serve, once it is there: the bucket is prepared while the port is open already."""

from __future__ import annotations

from aiohttp import web

from putgate_api.auth.authenticate import Authenticator
from putgate_api.auth.caller import Caller
from putgate_api.uploads.bucket import Bucket
from putgate_protocol.problems import problem


class Serving:
    """Filled in by composition. Until `prepared` is set calls are `not_ready`; while draining, those that still
    arrive are answered, and `ready` says that no more should.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self.prepared: Bucket | None = None
        self.draining = False
        self.waiting_for = "the bucket is being prepared"

    @property
    def ready(self) -> bool:
        return self.prepared is not None and not self.draining

    @property
    def bucket(self) -> Bucket:
        """Raises `not_ready`."""
        if self.prepared is None:
            raise problem("not_ready", "the server is starting", retry_after=1)
        return self.prepared

    def caller(self, request: web.Request) -> Caller:
        """Who sent this request. Raises `unauthenticated`."""
        return self._authenticator.authenticate(request.headers.get("Authorization"))
