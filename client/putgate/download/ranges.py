"""Byte ranges of one version of a file, from the store, over a signed URL that is renewed when its life is over.

The API's token never goes there: its redirect is followed by hand. Every range names the version that it must be of,
and every answer's own is compared: bytes of two versions never meet. What the bytes are worth is not judged here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

import aiohttp
from yarl import URL

from putgate.errors import FileReplaced, StoreRefused, Unreachable
from putgate.options import Options
from putgate.retry import lost, persist
from putgate.store_answer import store_answer
from putgate.wire import Wire, reason
from putgate_protocol.names import Name

CHUNK = 128 * 1024
"""Bytes handed on at once, in a thread. Less makes too many hops, more is held once for each range under way."""

REFUSALS = 3
"""How many fresh URLs in a row the store may refuse before that is its final no."""

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Sink(Protocol):
    """Takes bytes in order. `position`: the offset in the file of the next one. `write` blocks, one call at a time."""

    @property
    def position(self) -> int: ...

    def write(self, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What downloads need, made once per client. `pool`: threads that write, `hashers`: threads that hash. `slots`:
    requests to the store at once, shared with uploads.
    """

    wire: Wire
    session: aiohttp.ClientSession
    pool: Executor
    hashers: Executor
    options: Options
    slots: asyncio.Semaphore


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What is fetched. `etag`: None where the store told none."""

    name: Name
    size: int
    etag: str | None


class Ranges:
    """The ranges of one version; several may be under way. `on_bytes` hears of what has arrived."""

    def __init__(self, means: Means, version: Version, on_bytes: Callable[[int], None]) -> None:
        self._means = means
        self._version = version
        self._on_bytes = on_bytes
        self._url: str | None = None
        self._locating = asyncio.Lock()
        self._refusals = 0

    async def fill(self, sink: Sink, end: int) -> None:
        """Fetch from the sink's position up to `end`, again from where a try ended as long as there is any progress.

        Raises `FileReplaced`, `Unreachable`, `StoreRefused`, `NotFound` and other problems, `OSError` of the sink.
        """
        try:
            while sink.position < end:
                await persist(lambda: self._some(sink, end), self._means.options.give_up_after, _again)
        except _ExpiredError as error:
            # Patience ended before the refusals were counted to the last.
            raise StoreRefused(str(error), status=403) from None

    async def _some(self, sink: Sink, end: int) -> None:
        start = sink.position
        async with self._means.slots:
            url = await self._located()
            try:
                await self._request(url, sink, end)
            except Unreachable:
                # Patience is for a store that gives nothing: one that gives a little is asked for the rest.
                if sink.position - start < CHUNK:
                    raise

    async def _request(self, url: str, sink: Sink, end: int) -> None:
        target = URL(url, encoded=True)
        host = str(target.origin())
        try:
            async with self._means.session.get(
                target,
                headers=self._headers(sink.position, end),
                skip_auto_headers=("User-Agent", "Accept"),
                allow_redirects=False,
            ) as response:
                await self._judge(response, url, sink.position, end)
                await _pour(response, lambda data: self._take(sink, data, end))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreachable(f"{host}: {reason(error)}") from None
        if sink.position < end:
            raise Unreachable(f"{host}: the answer was cut off")

    async def _take(self, sink: Sink, data: bytes, end: int) -> None:
        if sink.position + len(data) > end:
            raise self._replaced()
        if not data:
            return
        await asyncio.get_running_loop().run_in_executor(self._means.pool, sink.write, data)
        self._on_bytes(len(data))

    def _headers(self, start: int, end: int) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if (start, end) != (0, self._version.size):
            headers["Range"] = f"bytes={start}-{end - 1}"
        if self._version.etag is not None:
            headers["If-Match"] = f'"{self._version.etag}"'
        return headers

    async def _judge(self, response: aiohttp.ClientResponse, url: str, start: int, end: int) -> None:
        status, name = response.status, self._version.name
        if status in (200, 206):
            self._refusals = 0
            if self._is_of_version(response) and _covers(response, start, end, self._version.size):
                return
        if status in (200, 206, 404, 412, 416):
            raise self._replaced()
        answer = await store_answer(response)
        what = f"{name}: the store answered {answer}"
        if answer.passes:
            if answer.outdated and url == self._url:
                self._url = None
            raise Unreachable(what, retry_after=answer.retry_after)
        if status == 403:
            self._refused(url)
            raise _ExpiredError(what)
        raise StoreRefused(what, status=status)

    def _is_of_version(self, response: aiohttp.ClientResponse) -> bool:
        """An answer may name no version at all; If-Match has spoken then."""
        etag = response.headers.get("ETag", "").strip('"')
        return not etag or self._version.etag is None or etag == self._version.etag

    def _refused(self, url: str) -> None:
        """Forget a URL that is over, once, however many ranges meet it. Raises `StoreRefused`."""
        if url != self._url:
            return
        self._url = None
        self._refusals += 1
        if self._refusals > REFUSALS:
            raise StoreRefused(f"{self._version.name}: the store answered HTTP 403", status=403)

    async def _located(self) -> str:
        async with self._locating:
            if self._url is None:
                self._url = await self._means.wire.locate(self._version.name)
            return self._url

    def _replaced(self) -> FileReplaced:
        return FileReplaced(f"{self._version.name}: it was replaced or removed while it was downloaded")


class _ExpiredError(Exception):
    """The URL's life was over; the next try asks for another."""


def _covers(response: aiohttp.ClientResponse, start: int, end: int, size: int) -> bool:
    """Whether the answer's body is the range that was asked for: all of the file, or this part of it."""
    if response.status == 200:
        return (start, end) == (0, size) and response.content_length in (None, size)
    found = _RANGE.match(response.headers.get("Content-Range", ""))
    return found is not None and tuple(map(int, found.groups())) == (start, end - 1, size)


async def _pour(response: aiohttp.ClientResponse, take: Callable[[bytes], Awaitable[None]]) -> None:
    held = bytearray()
    try:
        async for data in response.content.iter_any():
            held += data
            if len(held) >= CHUNK:
                whole = bytes(held)
                held.clear()
                await take(whole)
    except (aiohttp.ClientError, TimeoutError):
        # The connection is lost; what came before is as good as ever.
        await take(bytes(held))
        raise
    await take(bytes(held))


def _again(error: Exception) -> float | None:
    return 0.0 if isinstance(error, _ExpiredError) else lost(error)
