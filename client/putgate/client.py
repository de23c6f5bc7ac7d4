"""The client that applications import: one API, one bucket's files."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import aiohttp

from putgate.download.downloader import Downloader
from putgate.download.ranges import Means as DownloadMeans
from putgate.options import Options
from putgate.token_file import checked_token
from putgate.trust import trust
from putgate.upload.job import Job, Uploaded
from putgate.upload.many import Engine
from putgate.upload.means import Budget, Means, OnBytes, unheard
from putgate.upload.progress import NoProgress, Progress
from putgate.upload.put import Sender
from putgate.upload.source import BytesSource, FileSource
from putgate.upload.stream import StreamSource
from putgate.wire import Token, Wire, checked_url
from putgate_protocol.messages.access_url import MAX_FILENAME, AccessUrlAnswer, AccessUrlRequest
from putgate_protocol.messages.base import File
from putgate_protocol.messages.files import MAX_LIMIT, ListAnswer
from putgate_protocol.names import Name
from putgate_protocol.problems import NameProblem

CONNECT = 10.0
"""Seconds to open a connection; past that the address is most likely wrong or filtered."""

CALLS = 32
"""Connections to the API at once. More only wait there instead of here, and take descriptors."""

READERS = 4
"""Threads that read what is sent and write what is downloaded; hashing has its own and never holds these up."""

NameLike = Name | str | bytes
PathLike = str | os.PathLike[str] | os.PathLike[bytes]


class Client:
    """A client of the signing API at `url`; use it as an async context manager.

    `token`: a bearer token, a `TokenFile`, or a function that gives one (called again when the API refuses it).
    `ca_file`: certificates to trust beside the system's, of the API and of the store. Every method raises `Problem`
    for what the API says no to, `ClientError` for what goes wrong on the way, `OSError` for local files. Names are
    text, or bytes where they are not UTF-8.

        async with putgate.Client("https://files.example.org", token=token) as client:
            await client.upload("report.pdf", "2026/report.pdf")
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        options: Options | None = None,
        ca_file: str | os.PathLike[str] | None = None,
    ) -> None:
        """Raises `ValueError` for a URL, a token or a CA file that cannot be one, `OSError` for one not to be read."""
        self._url = checked_url(url)
        self._token = checked_token(token) if isinstance(token, str) else token
        self._options = options or Options()
        self._trust = True if ca_file is None else trust(ca_file)
        self._opened: _Opened | None = None

    async def __aenter__(self) -> Self:
        self._opened = _Opened(self._url, self._token, self._options, self._trust)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened, self._opened = self._use(), None
        await opened.close()

    async def upload(
        self,
        source: PathLike | bytes,
        name: NameLike,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
        on_bytes: OnBytes | None = None,
    ) -> Uploaded:
        """Upload a file (by its path) or bytes under `name`. Nothing is sent when that very content is there.

        `if_absent`: only when the name is free; `if_match`: only when its version is this one
        (`PreconditionFailed` otherwise).
        """
        job = Job(
            name=as_name(name),
            source=BytesSource(source) if isinstance(source, bytes) else FileSource(source, follow_symlinks=True),
            content_type=content_type,
            metadata=dict(metadata or {}),
            if_absent=if_absent,
            if_match=if_match,
        )
        return await self.engine(on_bytes=on_bytes).upload(job)

    async def upload_stream(
        self,
        stream: BinaryIO,
        name: NameLike,
        *,
        size: int | None = None,
        part_size: int | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
        on_bytes: OnBytes | None = None,
    ) -> Uploaded:
        """Upload what a binary stream gives until it ends, read once and in order, a few parts of it in memory.

        The end of a stream looks the same when its source has died: give its `size` in bytes where it is known, and
        any other is refused (`WrongSize`). `part_size` (the bucket's, doubled some times): a stream of unknown size
        has room for 10,000 parts. Whatever fails, nothing becomes visible; a stream cannot be resumed. The stream is
        not closed; a read that blocks goes on in its thread when the call is cancelled.
        """
        job = Job(
            name=as_name(name),
            source=StreamSource(stream),
            content_type=content_type,
            metadata=dict(metadata or {}),
            if_absent=if_absent,
            if_match=if_match,
        )
        return await self.engine(on_bytes=on_bytes).upload_stream(job, stream, size=size, part_size=part_size)

    def engine(
        self,
        progress: Progress | None = None,
        on_bytes: OnBytes | None = None,
        on_hashed: OnBytes | None = None,
    ) -> Engine:
        """The upload engine, for many files or to go on after a crash.

        `progress`: where hashes of large files are kept. `on_bytes` hears of bytes as they are sent, `on_hashed`
        as they are hashed; both are called in the event loop. Several engines share the client's limits.
        """
        opened = self._use()
        means = Means(
            wire=opened.wire,
            sender=opened.sender,
            pool=opened.pool,
            hashers=opened.hashers,
            options=self._options,
            slots=opened.slots,
            memory=opened.memory,
            complete=opened.wire.complete,
            progress=progress or NoProgress(),
            on_bytes=on_bytes or unheard,
            on_hashed=on_hashed or unheard,
        )
        return Engine(means)

    async def download(
        self, name: NameLike, target: PathLike | BinaryIO, *, on_bytes: Callable[[int], None] | None = None
    ) -> File:
        """Download into the file `target`, which appears, or is replaced, only whole and verified. A folder, device,
        pipe or socket in its place is refused (`OSError`) before anything is fetched.

        A try that failed, or was killed, is gone on with by the next; what it has fetched lies hidden beside the
        target meanwhile. A binary stream as `target` gets the bytes in order; what is wrong with them is then known,
        and raised as `NotVerified`, only after the last. A file that another tool has stored has no `file_hash`, and
        is not verified.
        """
        opened = self._use()
        means = DownloadMeans(
            wire=opened.wire,
            session=opened.store_session,
            pool=opened.pool,
            hashers=opened.hashers,
            options=self._options,
            slots=opened.slots,
        )
        downloader, heard = Downloader(means), on_bytes or (lambda count: None)
        if isinstance(target, str | bytes | os.PathLike):
            return await downloader.to_file(as_name(name), Path(os.fsdecode(target)), heard)
        return await downloader.to_stream(as_name(name), target, heard)

    async def url(
        self,
        name: NameLike,
        *,
        expires_in: timedelta | None = None,
        filename: str | None = None,
        inline: bool | None = None,
    ) -> AccessUrlAnswer:
        """A URL by which anybody may read the file until it expires: hand it on with care. Raises `NotFound`.

        `expires_in`: the server may give less. `filename`: what a browser saves it as. `inline=False`: a browser
        saves it; otherwise the server decides. Raises `ValueError` for a wish that cannot be sent.
        """
        return await self._use().wire.access_url(url_request(as_name(name), expires_in, filename, inline))

    async def list(self, prefix: str | bytes = "") -> AsyncIterator[File]:
        """Every file whose name begins with `prefix` and that the caller may list, in the order of keys."""
        async for page in self.pages(prefix):
            for file in page.files:
                yield file

    async def pages(self, prefix: str | bytes = "", *, delimiter: str | None = None) -> AsyncIterator[ListAnswer]:
        """As `list`, page by page; with a delimiter `/` each folder below is one of the page's prefixes."""
        wire = self._use().wire
        raw = prefix if isinstance(prefix, bytes) else prefix.encode("utf-8", "surrogateescape")
        cursor: str | None = None
        while True:
            page = await wire.page(raw, delimiter, cursor, MAX_LIMIT)
            yield page
            if (cursor := page.cursor) is None:
                return

    async def stat(self, name: NameLike) -> File:
        """A file's size, hash, version and times. Raises `NotFound`."""
        return (await self._use().wire.stat(as_name(name))).file

    async def delete(self, name: NameLike, *, if_match: str | None = None) -> None:
        """Remove a file; with `if_match` only if its version is this one. Raises `NotFound`."""
        await self._use().wire.delete(as_name(name), if_match)

    def _use(self) -> _Opened:
        if self._opened is None:
            raise RuntimeError("use the client inside `async with`")
        return self._opened


class _Opened:
    """What a client holds while it is open."""

    def __init__(self, url: str, token: Token, options: Options, trusted: ssl.SSLContext | bool) -> None:
        silence = options.silence.total_seconds()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=silence)
        # Two sessions, so that nothing meant for the API can reach the store: no cookie, no header.
        self._api_session = aiohttp.ClientSession(
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=CALLS, ssl=trusted),
        )
        self.store_session = aiohttp.ClientSession(
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0, ssl=trusted),
            auto_decompress=False,
        )
        self.pool = ThreadPoolExecutor(READERS, thread_name_prefix="putgate-read")
        self.hashers = ThreadPoolExecutor(options.hash_threads, thread_name_prefix="putgate-hash")
        self.wire = Wire(self._api_session, url, token, options)
        self.sender = Sender(self.store_session, self.pool, silence)
        self.slots = asyncio.Semaphore(options.concurrency)
        self.memory = Budget(options.memory)

    async def close(self) -> None:
        await self.store_session.close()
        await self._api_session.close()
        for pool in (self.pool, self.hashers):
            pool.shutdown(wait=False, cancel_futures=True)


def url_request(
    name: Name, expires_in: timedelta | None, filename: str | None, inline: bool | None
) -> AccessUrlRequest:
    """Raises `ValueError`, which says what is wrong."""
    if expires_in is not None and expires_in < timedelta(seconds=1):
        raise ValueError("expires_in is at least a second")
    if filename is not None and not 1 <= len(filename) <= MAX_FILENAME:
        raise ValueError(f"filename has 1 to {MAX_FILENAME} characters")
    if filename is not None and any("\ud800" <= char <= "\udfff" for char in filename):
        raise ValueError("filename is not valid Unicode")
    seconds = None if expires_in is None else int(expires_in.total_seconds())
    wire_name = name.to_wire()
    return AccessUrlRequest(
        name=wire_name.get("name"),
        name_b64=wire_name.get("name_b64"),
        expires_in=seconds,
        filename=filename,
        inline=inline,
    )


def as_name(name: NameLike) -> Name:
    """Check a name. Raises `NameProblem`. Text with surrogates is what the file system had for other bytes."""
    match name:
        case Name():
            return name
        case bytes():
            return Name.parse(name)
        case str():
            try:
                return Name.parse(name.encode("utf-8", "surrogateescape"))
            except UnicodeEncodeError:
                raise NameProblem.invalid("is not valid Unicode") from None
