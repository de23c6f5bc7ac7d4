"""A proxy between one client and the API server that passes everything on, but tampers with watches.

Events are dropped, doubled and delayed past later ones, and streams are cut and their history lost, by a seeded random
generator; and what has come through can come once more when all is long over. Requests and answers stay as they are:
whoever asks instead of listening learns the truth.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web
from yarl import URL

QUIET = 1.0
"""Seconds without an event after which what was delayed goes out: stale news after the last true one."""

GAP = 1.0
"""Seconds at most for which a stream that was cut cannot be opened again."""

EXPIRED = {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}
"""What a watch is told whose resourceVersion the API server no longer has: that it must list again."""

BROKEN = {"kind": "Status", "status": "Failure", "code": 500, "reason": "InternalError", "message": "cannot decode"}
"""What a watch is told when the API server fails by itself."""

OF_ONE_CONNECTION = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """From 0 to 1: of one event to be dropped, doubled, delayed, or cut through with its stream; and of the API server
    to have no history any more when the stream is opened again.
    """

    drop: float = 0.0
    double: float = 0.0
    delay: float = 0.0
    cut: float = 0.0
    forget: float = 0.0


@dataclass(slots=True, kw_only=True)
class Stream:
    """What becomes of the lines of one watch; pure. `past`: lines that have come through. `late`: lines that will, and
    how many others go out before them.
    """

    odds: Odds
    random: Random
    done: Counter[str]
    past: list[bytes]
    late: list[tuple[int, bytes]] = field(default_factory=list)

    def pass_on(self, line: bytes) -> list[bytes]:
        """What goes out now. What is not about an object is left alone."""
        waiting = [(left - 1, each) for left, each in self.late]
        due = [each for left, each in waiting if left <= 0]
        self.late = [each for each in waiting if each[0] > 0]
        if json.loads(line)["type"] not in ("ADDED", "MODIFIED", "DELETED"):
            return [line, *due]
        choices = ("drop", "double", "delay")
        weights = (self.odds.drop, self.odds.double, self.odds.delay)
        (choice,) = self.random.choices((*choices, "pass"), (*weights, 1 - sum(weights)))
        self.done[choice] += 1
        if choice == "delay":
            self.late.append((self.random.randint(1, 8), line))
        if choice in ("double", "pass"):
            self.past.append(line)
        return [*{"drop": [], "delay": [], "double": [line, line]}.get(choice, [line]), *due]

    def is_cut(self) -> bool:
        cut = self.random.random() < self.odds.cut
        self.done["cut"] += cut
        return cut

    def the_rest(self) -> list[bytes]:
        rest, self.late = [each for _, each in self.late], []
        return rest


class TamperingProxy:
    """`with TamperingProxy(url, ca_file, odds, seed) as proxy:` http at `proxy.url`, in a thread of its own.

    `done`: how often what was done.
    """

    def __init__(self, target: str, ca_file: Path, odds: Odds, seed: int) -> None:
        self._target, self._odds = target, odds
        self._context = ssl.create_default_context(cafile=ca_file)
        self._random = Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tampering")
        self._streams: list[Stream] = []
        # By the path of what was watched: until when it cannot be watched again, and what it is told then.
        self._shut: dict[str, float] = {}
        self._told: dict[str, dict[str, Any]] = {}
        self._watches: dict[str, web.Request] = {}
        self._responses: dict[str, web.StreamResponse] = {}
        self._past: dict[str, list[bytes]] = {}
        self.done: Counter[str] = Counter()
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    @property
    def late(self) -> int:
        """Events that are still to come."""
        return sum(len(each.late) for each in list(self._streams))

    def break_a_watch(self) -> None:
        """One stream is cut, and ends in an error when it is opened again; but not the next time."""

        async def cut() -> None:
            path = self._random.choice(sorted(self._watches))
            self._told[path] = BROKEN
            _abort(self._watches[path])

        self._do(cut())

    def repeat_the_past(self) -> None:
        """Whatever has come through comes again, the last first, on the streams that are open now."""

        async def repeat() -> None:
            for path, lines in self._past.items():
                self.done["repeated"] += len(lines)
                await self._responses[path].write(b"".join(reversed(lines)))

        self._do(repeat())

    # In the proxy's thread

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _open(self) -> None:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._context, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            read_bufsize=2**22,
        )
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _close(self) -> None:
        await self._runner.cleanup()
        # Handlers of clients that are gone, which nobody else waits for.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self._http.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        watches = request.query.get("watch") in ("true", "1")
        if watches:
            await asyncio.sleep(self._shut.pop(request.path, 0.0) - self._loop.time())
        url = URL(f"{self._target}{request.raw_path}", encoded=True)
        headers = _end_to_end(request.headers)
        body = await request.read() or None
        async with self._http.request(request.method, url, headers=headers, data=body) as answer:
            if watches and answer.status == 200:
                return await self._watch(request, answer)
            return web.Response(status=answer.status, headers=_end_to_end(answer.headers), body=await answer.read())

    async def _watch(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(headers=_end_to_end(answer.headers))
        await response.prepare(request)
        if (error := self._told.pop(request.path, None)) is not None:
            self.done[error["reason"]] += 1
            await response.write(json.dumps({"type": "ERROR", "object": error}).encode() + b"\n")
            return response
        past = self._past.setdefault(request.path, [])
        stream = Stream(odds=self._odds, random=Random(self._random.random()), done=self.done, past=past)
        self._streams.append(stream)
        self._watches[request.path] = request
        self._responses[request.path] = response
        lines: asyncio.Queue[bytes] = asyncio.Queue(1000)
        reading = asyncio.create_task(_read(answer, lines))
        try:
            await self._tamper(stream, lines, response, request)
        except ConnectionResetError:
            # The client has gone.
            pass
        finally:
            self._streams.remove(stream)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            # Closed, it would say good-bye to the server first, for longer than this event loop may live.
            _abort(answer.connection)
        return response

    async def _tamper(
        self, stream: Stream, lines: asyncio.Queue[bytes], response: web.StreamResponse, request: web.Request
    ) -> None:
        """Until the stream ends, or is cut."""
        while True:
            try:
                line = await asyncio.wait_for(lines.get(), QUIET)
            except TimeoutError:
                out = stream.the_rest()
            else:
                if not line:
                    return
                if stream.is_cut():
                    await self._cut(line, response, request)
                    return
                out = stream.pass_on(line)
            for each in out:
                await response.write(each)

    async def _cut(self, line: bytes, response: web.StreamResponse, request: web.Request) -> None:
        """In the middle of an event. While it lasts things go on."""
        self._shut[request.path] = self._loop.time() + self._random.uniform(0, GAP)
        await response.write(line[: self._random.randrange(len(line))])
        if self._random.random() < self._odds.forget:
            self._told[request.path] = EXPIRED
        _abort(request)


def _abort(end: web.Request | aiohttp.connector.Connection | None) -> None:
    transport = None if end is None else end.transport
    if isinstance(transport, asyncio.Transport):
        transport.abort()


async def _read(answer: aiohttp.ClientResponse, lines: asyncio.Queue[bytes]) -> None:
    """Every line, and an empty one for the end, be it that the server has broken the stream off."""
    with suppress(aiohttp.ClientError):
        while line := await answer.content.readline():
            await lines.put(line)
    await lines.put(b"")


def _end_to_end(headers: Any) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key.lower() not in OF_ONE_CONNECTION}
