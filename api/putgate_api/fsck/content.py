"""A file's bytes, read a part at a time and hashed on the way, so that memory does not grow with the file."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Protocol

import aiohttp
import stamina
from yarl import URL

from putgate_protocol.digests import FileHash, PartHash
from putgate_protocol.parts import Part, PartPlan
from putgate_storage.errors import Permanent, Refused, Transient, Unsupported
from putgate_storage.store import Probeable, Store

_LIFE = timedelta(minutes=5)
"""Of a URL that is used at once; long enough for clocks that differ."""

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_CHUNK = 256 * 1024
_TRIES = 4


class Reader(Protocol):
    async def part_hash(self, key: str, etag: str, part: Part) -> PartHash | None:
        """Of the bytes that are stored; None where the key does not hold the object of this ETag any more. Raises
        `StoreError`.
        """
        ...


async def file_hash(reader: Reader, key: str, etag: str, plan: PartPlan) -> FileHash | None:
    """None where the file was replaced meanwhile."""
    whole = hashlib.sha256()
    for part in plan:
        found = await reader.part_hash(key, etag, part)
        if found is None:
            return None
        whole.update(found)
    return FileHash(whole.digest())


class HttpReader:
    """Signed GETs at the endpoint that this process dials. Raises `Unsupported` for a store that cannot sign so."""

    def __init__(self, store: Store, http: aiohttp.ClientSession) -> None:
        if not isinstance(store, Probeable):
            raise Unsupported("this driver's objects cannot be read here", code="NotProbeable")
        self._store = store.probe_view()
        self._http = http

    async def part_hash(self, key: str, etag: str, part: Part) -> PartHash | None:
        caller = stamina.AsyncRetryingCaller(attempts=_TRIES, timeout=None)
        return await caller(Transient, self._part_hash, key, etag, part)

    async def _part_hash(self, key: str, etag: str, part: Part) -> PartHash | None:
        signed = await self._store.sign_get(key, _LIFE)
        last = part.offset + part.length - 1
        headers = {**signed.headers, "Range": f"bytes={part.offset}-{last}", "If-Match": f'"{etag}"'}
        try:
            async with self._http.get(
                URL(signed.url, encoded=True),
                headers=headers,
                timeout=_TIMEOUT,
                allow_redirects=False,
                skip_auto_headers=("Accept-Encoding",),
            ) as answer:
                _check(key, answer, part)
                if not answer.ok or answer.headers.get("ETag", "").strip('"') != etag:
                    return None
                return await _hashed(answer)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            name = type(error).__name__
            raise Transient(f"GetObject {key!r} was cut off: {name}", code=name) from None


def _check(key: str, answer: aiohttp.ClientResponse, part: Part) -> None:
    """Raises `StoreError` for what is neither these bytes nor an answer that says that they are gone."""
    status = answer.status
    what = f"GetObject {key!r} was answered {status}"
    if status >= 500 or status in {408, 429}:
        raise Transient(what, code=str(status))
    if status == 200 and answer.content_length != part.length:
        raise Permanent(f"{what}: the store gives no ranges of objects", code="NoRanges")
    if status not in {200, 206, 404, 412, 416}:
        raise Refused(what, code=str(status))


async def _hashed(answer: aiohttp.ClientResponse) -> PartHash:
    digest = hashlib.sha256()
    async for chunk in answer.content.iter_chunked(_CHUNK):
        digest.update(chunk)
    return PartHash(digest.digest())
