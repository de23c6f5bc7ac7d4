"""Turns calls away before they take memory, when too many are at work; the admin port is never touched.

Calls are counted as they come. Room for a body is taken when the caller is known, and before a byte of it is read, so
that nobody holds room without a token, nor all of it with one. The wait that is asked for grows with the crowd, so that
those who wait do not spend the time on being turned away.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.typedefs import Middleware

from putgate_api.metrics import Metrics
from putgate_api.routes.http import BODY_TIMEOUT
from putgate_protocol.messages.batch import MAX_BODY_BYTES
from putgate_protocol.problems import problem
from putgate_protocol.settings.api import Limits

_WINDOW = 10.0
"""Seconds looked back at. Shorter, and the wait jumps; longer, and it stays when the crowd has gone."""

ROOM = "putgate_room"
"""Where a request keeps its `Room`."""

_LEAST_WAIT, _MOST_WAIT = 1.0, 30.0
"""Seconds. A client adds jitter of its own, and believes at most 60."""

SMALL = 16 * 1024
"""Bytes of a body that takes no room beside its call's. Larger, and so many calls as may come take too much memory;
smaller, and ordinary calls wait while others send slowly."""

_MARKS = 10_000
"""How many turned away are remembered; more change nothing, the wait is at its most by then."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Load:
    """What is at work. One caller may fill half of the room, but always send the largest body."""

    def __init__(self, limits: Limits, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._share = max(MAX_BODY_BYTES, limits.concurrent_bytes // 2)
        self._metrics = metrics
        self._clock = clock
        self._calls = 0
        self._bytes: Counter[str] = Counter()
        self._away: deque[float] = deque(maxlen=_MARKS)
        self._taken: deque[float] = deque(maxlen=_MARKS)

    @contextmanager
    def call(self) -> Iterator[Room]:
        """Raises `not_ready` where there are too many."""
        if self._calls >= self._limits.concurrent_calls:
            self._metrics.turn_away("calls")
            raise self._full("the server has as much to do as it can hold")
        self._taken.append(self._clock())
        room = Room(self)
        self._calls += 1
        self._tell()
        try:
            yield room
        finally:
            self._calls -= 1
            room.leave()
            self._tell()

    def take(self, owner: str, size: int) -> None:
        """Room for a body of `size` bytes. Raises `not_ready` where there is none."""
        if self._bytes.total() + size > self._limits.concurrent_bytes:
            self._metrics.turn_away("bytes")
            raise self._full("the server has as much to do as it can hold")
        if self._bytes[owner] + size > self._share:
            self._metrics.turn_away("bytes")
            raise self._full("you have as much under way as one caller may")
        self._bytes[owner] += size
        self._tell()

    def give_back(self, owner: str, size: int) -> None:
        self._bytes[owner] -= size
        if not self._bytes[owner]:
            del self._bytes[owner]

    def _tell(self) -> None:
        self._metrics.at_work(self._calls, self._bytes.total())

    def _full(self, detail: str) -> Exception:
        now = self._clock()
        self._away.append(now)
        crowd, served = _within(self._away, now), _within(self._taken, now)
        wait = min(_MOST_WAIT, max(_LEAST_WAIT, _WINDOW * crowd / (served + 1)))
        return problem("not_ready", detail, retry_after=round(wait, 1))


class Room:
    """What one call has of it, until it ends."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._held: tuple[str, int] | None = None

    def take(self, owner: str, size: int) -> None:
        """For a body of `size` bytes, before it is read. Raises `not_ready`."""
        if size > SMALL:
            self._load.take(owner, size)
            self._held = owner, size

    def leave(self) -> None:
        if self._held is not None:
            self._load.give_back(*self._held)


def _within(marks: deque[float], now: float) -> int:
    while marks and marks[0] < now - _WINDOW:
        marks.popleft()
    return len(marks)


def shedding(limits: Limits, metrics: Metrics) -> Middleware:
    """A middleware. It belongs inside the one that turns problems into answers."""
    load = Load(limits, metrics)

    @web.middleware
    async def shed(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[BODY_TIMEOUT] = limits.body_timeout.total_seconds()
        with load.call() as request[ROOM]:
            return await handler(request)

    return shed


def announced(request: web.Request) -> int:
    """Bytes that the body may have. More than the most is refused unread; an unknown length counts as the most.

    Raises `request_invalid` for a body that is compressed, or encoded otherwise: its length would say nothing of what
    it becomes.
    """
    if not request.can_read_body:
        return 0
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise problem("request_invalid", "bodies are taken as they are only: send it without Content-Encoding")
    length = request.content_length
    return MAX_BODY_BYTES if length is None else min(length, MAX_BODY_BYTES)
