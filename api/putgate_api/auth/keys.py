"""The cluster's signing keys, kept: fetched when they are needed, one fetch at a time, and not more often than rarely.

A key that was once published stays known until a later fetch says otherwise: an API server that is away for an hour
must not lock every caller out, and cannot sign anything meanwhile either.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal

import structlog

from putgate_api.auth.api_server import Published, Unavailable
from putgate_protocol.problems import Problem, problem

log = structlog.get_logger("putgate.api")

REFRESH = 600.0
"""Seconds between fetches that nobody asked for; so long may a key that was withdrawn still be taken."""

ASK_AGAIN = 10.0
"""Seconds between fetches for keys that are not known. Fewer let anybody with a made-up token load the API server;
more make callers wait after a rotation.
"""

RETRY = 2.0
"""Seconds after a fetch that failed, doubled each time up to `ASK_AGAIN` for those that nobody asked for."""


class Keys:
    """`fetch` asks the API server and raises `Unavailable`; `learnt` is told of each fetch that succeeds; `clock` gives
    seconds that only grow.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Published]],
        *,
        learnt: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._fetch = fetch
        self._tell = learnt
        self._clock = clock
        self._sleep = sleep
        self._published: Published | None = None
        self._missing: set[tuple[str, str]] = set()
        self._next = 0.0
        self._failures = 0
        self._fetching: asyncio.Task[None] | None = None
        self.failure: Unavailable | None = None

    @property
    def known(self) -> Published | None:
        """What was fetched last, however long ago."""
        return self._published

    async def asked(self, issuer: str, key_id: str) -> Published:
        """What is published, looked at again if it does not have this issuer and key. Raises `not_ready`."""
        published = self._published
        if published is not None and _has(published, issuer, key_id):
            return published
        if self._fetching is None and self._clock() < self._next:
            if published is not None and (issuer, key_id) in self._missing:
                return published
            raise self._not_yet()
        await self._refreshed()
        if self.failure is not None or self._published is None:
            raise self._not_yet()
        if not _has(self._published, issuer, key_id):
            # Asked for just now, and not there: refused at once until it may be asked for again.
            self._missing.add((issuer, key_id))
        return self._published

    async def keep(self) -> None:
        """Fetch now, and again and again, sooner after failures; for ever. Its end ends a fetch that is under way."""
        try:
            while True:
                await self._refreshed()
                pause = REFRESH if self.failure is None else min(RETRY * 2 ** (self._failures - 1), ASK_AGAIN)
                await self._sleep(pause)
        finally:
            if self._fetching is not None:
                self._fetching.cancel()
                await asyncio.wait({self._fetching})

    async def _refreshed(self) -> None:
        """Wait for a fetch, one's own or one that is under way. A caller that goes away does not end it for others."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._refresh())
        fetching = self._fetching
        await asyncio.wait({fetching})
        if fetching.cancelled():
            raise self._not_yet()
        fetching.result()

    async def _refresh(self) -> None:
        try:
            fetched = await self._fetch()
        except Unavailable as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - whatever was answered, it must not end the program
            self._failed(Unavailable("JWKSUnreachable", f"the answer cannot be read ({type(error).__name__})"))
        else:
            self._learnt(fetched)
        finally:
            self._fetching = None

    def _learnt(self, published: Published) -> None:
        if self.failure is not None or self._published is None or published.keys.keys() != self._published.keys.keys():
            log.info("signing keys read", issuer=published.issuer, keys=sorted(published.keys))
        self._published, self.failure, self._failures = published, None, 0
        self._missing.clear()
        self._next = self._clock() + ASK_AGAIN
        self._tell()

    def _failed(self, error: Unavailable) -> None:
        if self.failure is None or str(self.failure) != str(error):
            log.warning("signing keys cannot be read", reason=error.reason, message=str(error))
        self.failure = error
        self._failures = min(self._failures + 1, 10)
        self._next = self._clock() + RETRY

    def _not_yet(self) -> Problem:
        """Whether the token is good cannot be said: it may be in a moment."""
        what: Literal["at present", "yet"] = "yet" if self._published is None else "at present"
        return problem(
            "not_ready",
            f"the server does not have the cluster's keys for this token {what}",
            retry_after=round(max(1.0, self._next - self._clock()), 1),
        )


def _has(published: Published, issuer: str, key_id: str) -> bool:
    return published.issuer == issuer and key_id in published.keys
