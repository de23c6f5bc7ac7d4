"""A stored file to a local one, verified: either the whole, right file appears under its name, or nothing does.

The bytes come straight from the store. The API's token never goes there: its redirect is followed by hand. A file
that another tool has stored has no file hash: it is checked by its size and version alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

import aiohttp
from yarl import URL

from putgate.errors import NotVerified, StoreRefused, Unreachable
from putgate.options import Options
from putgate.retry import lost, persist
from putgate.wire import Stat, Wire, reason
from putgate_protocol.digests import FileHash
from putgate_protocol.messages.base import File
from putgate_protocol.names import Name
from putgate_protocol.parts import MIB

CHUNK = MIB
"""Bytes written and hashed at once, in a thread."""

RESTARTS = 3
"""How often a file may be replaced while it is downloaded before that is an error."""

_RANGE = re.compile(r"bytes (\d+)-\d+/\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloader:
    wire: Wire
    session: aiohttp.ClientSession
    pool: Executor
    options: Options

    async def download(self, name: Name, target: Path, on_bytes: Callable[[int], None]) -> File:
        """Fetch `name` into `target`, replacing what is there only when all of it has arrived.

        A new file has the permissions of any new file; one that is replaced keeps its own.

        Raises `NotFound` and other problems, `Unreachable`, `StoreRefused`, `NotVerified`, `OSError`.
        """
        for _ in range(RESTARTS):
            try:
                return await self._once(name, target, on_bytes)
            except _ReplacedError:
                continue
        raise NotVerified(f"{name}: it was replaced again and again while it was downloaded")

    async def _once(self, name: Name, target: Path, on_bytes: Callable[[int], None]) -> File:
        stat = await self.wire.stat(name)
        loop = asyncio.get_running_loop()
        sink = await loop.run_in_executor(self.pool, Sink, target, stat)
        try:
            await persist(lambda: self._fetch(name, stat, sink, on_bytes), self.options.give_up_after, _again)
            await loop.run_in_executor(self.pool, sink.finish, name)
        except BaseException:
            on_bytes(-sink.written)
            raise
        finally:
            await loop.run_in_executor(self.pool, sink.close)
        return stat.file

    async def _fetch(self, name: Name, stat: Stat, sink: Sink, on_bytes: Callable[[int], None]) -> None:
        """The rest of the file, from where the last try ended."""
        if sink.written == stat.file.size:
            return
        url = URL(await self.wire.locate(name), encoded=True)
        headers = {"Accept-Encoding": "identity"}
        if sink.written:
            headers["Range"] = f"bytes={sink.written}-"
        host = str(url.origin())
        try:
            async with self.session.get(
                url, headers=headers, skip_auto_headers=("User-Agent", "Accept"), allow_redirects=False
            ) as response:
                self._judge(name, response, sink)
                async for chunk in _chunks(response):
                    await asyncio.get_running_loop().run_in_executor(self.pool, sink.write, chunk)
                    on_bytes(len(chunk))
        except aiohttp.ClientError as error:
            raise Unreachable(f"{host}: {reason(error)}") from None
        except TimeoutError as error:
            raise Unreachable(f"{host}: {reason(error)}") from None
        if sink.written < stat.file.size:
            raise Unreachable(f"{host}: the answer was cut off")

    @staticmethod
    def _judge(name: Name, response: aiohttp.ClientResponse, sink: Sink) -> None:
        etag = response.headers.get("ETag", "")
        if response.status == 200 and not sink.written and sink.is_expected(etag):
            sink.etag = etag
            return
        if response.status == 206 and sink.written and etag:
            found = _RANGE.match(response.headers.get("Content-Range", ""))
            if found and int(found[1]) == sink.written and etag == sink.etag:
                return
        if response.status in (200, 206, 404, 412, 416):
            raise _ReplacedError
        if response.status == 403:
            raise _ExpiredError(f"{name}: the store answered HTTP 403")
        if response.status in (408, 429) or response.status >= 500:
            raise Unreachable(f"{name}: the store answered HTTP {response.status}")
        raise StoreRefused(f"{name}: the store answered HTTP {response.status}", status=response.status)


class Sink:
    """A file that is being filled: beside its target under a passing name, hashed as it grows. Blocks."""

    def __init__(self, target: Path, stat: Stat) -> None:
        self._target = target
        self._expected = stat.file
        self._part_size = stat.part_size
        self._done: list[bytes] = []
        self._digest = hashlib.sha256()
        self.written = 0
        self.etag = ""
        # A name near the limit of the file system leaves no room for additions: the target's own is not used.
        self._file: BinaryIO
        self._temporary = target.parent / f".putgate-{secrets.token_hex(8)}.part"
        mode = _permissions(target)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(self._temporary, flags, 0o666 if mode is None else mode)
        self._file = os.fdopen(descriptor, "wb")
        if mode is not None:
            # What the umask took. Where a file system has no permissions to change, the file is none the less good.
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, mode)

    def is_expected(self, etag: str) -> bool:
        """Whether an answer with this ETag is of the version that was looked at. An answer may have none."""
        version = self._expected.version
        return not etag or not version or etag.strip('"') == version

    def write(self, data: bytes) -> None:
        if self.written + len(data) > self._expected.size:
            raise _ReplacedError
        self._file.write(data)
        self._hash(memoryview(data))

    def finish(self, name: Name) -> None:
        """Check everything and give the file its name. Raises `NotVerified`."""
        if self.written != self._expected.size:
            raise NotVerified(f"{name}: {self.written} bytes arrived of {self._expected.size}")
        if self._part_size and self._expected.file_hash:
            if self.written % self._part_size:
                self._done.append(self._digest.digest())
            if str(FileHash.of(self._done)) != self._expected.file_hash:
                raise NotVerified(f"{name}: the bytes that arrived are not those that were stored")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._temporary.replace(self._target)

    def close(self) -> None:
        """Nothing of an unfinished file stays."""
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self._temporary.unlink()

    def _hash(self, data: memoryview) -> None:
        """Part hashes as if the file were read part by part."""
        while data and self._part_size:
            room = self._part_size - self.written % self._part_size
            piece, data = data[:room], data[room:]
            self._digest.update(piece)
            self.written += len(piece)
            if self.written % self._part_size == 0:
                self._done.append(self._digest.digest())
                self._digest = hashlib.sha256()
        self.written += len(data)


class _ReplacedError(Exception):
    """The name holds something else than when the download began."""


class _ExpiredError(Exception):
    """The URL's life was over; the next try asks for another."""


def _permissions(target: Path) -> int | None:
    """Those of the file that is to be replaced: whoever closed it to others wants its new content closed too."""
    try:
        found = target.lstat()
    except FileNotFoundError:
        return None
    return found.st_mode & 0o777 if S_ISREG(found.st_mode) else None


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    held = bytearray()
    async for data in response.content.iter_any():
        held += data
        if len(held) >= CHUNK:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _again(error: Exception) -> float | None:
    return 0.0 if isinstance(error, _ExpiredError) else lost(error)
