"""What the canaries share: throw-away keys and uploads, deliberately wrong requests, and what became of them."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar, cast

from putgate_protocol.digests import PartHash
from putgate_storage.errors import ConditionFailed, Refused, StoreError, Transient
from putgate_storage.probe.report import Verdict
from putgate_storage.probe.sender import Sender
from putgate_storage.store import (
    Condition,
    FinishedPart,
    ListsUploads,
    ObjectHeaders,
    PartToSign,
    Probeable,
    PutToSign,
    SignedRequest,
    StoreUpload,
)

T = TypeVar("T")

LIFE = timedelta(minutes=1)
_CLEAN_ROUNDS = 10

LONG_AGO = timedelta(hours=1)
"""How long ago an expired URL was signed: past its life, whatever the two clocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a row answers."""

    verdict: Verdict
    seen: str


def passed(seen: str) -> Answer:
    return Answer(verdict="passed", seen=seen)


def failed(seen: str) -> Answer:
    return Answer(verdict="failed", seen=seen)


def inconclusive(seen: str) -> Answer:
    return Answer(verdict="inconclusive", seen=seen)


def judged(*, good: bool, seen: str) -> Answer:
    return passed(seen) if good else failed(seen)


class Bench:
    """One run of the probe below `base`, a prefix of its own."""

    def __init__(self, store: Probeable, sender: Sender, base: str) -> None:
        self.store = store.probe_view()
        self._expired = store.probe_view(age=LONG_AGO)
        self.copy_source = store.copy_source
        self.sender = sender
        self.base = base
        self.part_sha256_in_complete = True
        self._opened: list[StoreUpload] = []

    def key(self, name: str) -> str:
        return f"{self.base}{name}-{secrets.token_hex(4)}"

    async def open(self, key: str) -> StoreUpload:
        upload = await self.store.create_upload(key, ObjectHeaders())
        self._opened.append(upload)
        return upload

    async def part(
        self, upload: StoreUpload, number: int, body: bytes, *, length: int | None = None, md5_of: bytes | None = None
    ) -> SignedRequest:
        """`md5_of`: whose MD5 is signed too."""
        to_sign = PartToSign(number=number, length=_length(body, length), sha256=PartHash.of(body), md5=_md5(md5_of))
        return (await self.store.sign_parts(upload, [to_sign], LIFE))[0]

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        length: int | None = None,
        condition: Condition | None = None,
        md5_of: bytes | None = None,
    ) -> SignedRequest:
        """`md5_of`: whose MD5 is signed too."""
        return await self.store.sign_put(replace(_put(key, body, length, condition), md5=_md5(md5_of)), LIFE)

    async def expired_part(self, upload: StoreUpload, number: int, body: bytes) -> SignedRequest:
        """Signed `LONG_AGO`."""
        to_sign = PartToSign(number=number, length=len(body), sha256=PartHash.of(body))
        return (await self._expired.sign_parts(upload, [to_sign], LIFE))[0]

    async def expired_put(self, key: str, body: bytes) -> SignedRequest:
        return await self._expired.sign_put(_put(key, body, None, None), LIFE)

    async def send(self, request: SignedRequest, body: bytes, extra: Mapping[str, str] | None = None) -> int:
        """The status; a 5xx or 429 is no answer, but for 501, which is a definite no. Raises `Transient`."""
        status = await self.sender.send(request, body, extra)
        if (status >= 500 and status != 501) or status in (408, 429):
            raise Transient(f"the store answered {status}", code=str(status))
        return status

    async def upload(self, key: str, body: bytes) -> tuple[StoreUpload, list[FinishedPart]]:
        """An open upload with `body` as its only part, ready to be completed."""
        upload = await self.open(key)
        status = await self.send(await self.part(upload, 1, body), body)
        if not accepted(status):
            raise Refused(f"a correct part was answered {status}", code=str(status))
        return upload, await self.finished(upload, body)

    async def finished(self, upload: StoreUpload, body: bytes) -> list[FinishedPart]:
        held = await self.store.list_parts(upload)
        digest = PartHash.of(body) if self.part_sha256_in_complete else None
        return [FinishedPart(number=part.number, etag=part.etag, sha256=digest) for part in held or []]

    async def wins(self, upload: StoreUpload, parts: Sequence[FinishedPart], condition: Condition) -> bool:
        """Whether this conditional complete is told that it won. Raises `Transient`."""
        try:
            return await self.store.complete(upload, parts, condition) is not None
        except ConditionFailed:
            return False
        except Transient as error:
            # How AWS answers those who lose at the very same moment.
            if error.code in ("ConditionalRequestConflict", "OperationAborted"):
                return False
            raise

    async def holds(self, key: str, body: bytes) -> bool:
        found = await self.store.get_small(key, 1 << 16)
        return found is not None and found.body == body

    async def clean(self) -> None:
        """Drop every upload that was opened and everything below `base`. Raises `StoreError`."""
        uploads = list(self._opened)
        if isinstance(self.store, ListsUploads):
            uploads += [each.upload for each in await self.store.list_uploads(self.base)]
        for upload in dict.fromkeys(uploads):
            await self.store.abort(upload)
        for _ in range(_CLEAN_ROUNDS):
            if not (page := (await self.store.list(self.base)).entries):
                return
            for entry in page:
                await self.store.delete(entry.key)
        raise Transient("the store still lists keys of the probe that were deleted", code="CleanIncomplete")


async def together(*calls: Awaitable[T]) -> list[T]:
    """All at once, and none still under way when this returns or raises."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return cast("list[T]", answers)


def accepted(status: int) -> bool:
    return 200 <= status < 300


def tampered(request: SignedRequest) -> SignedRequest:
    """With another last digit of the signature, which ends every signed URL."""
    last = "0" if request.url[-1] != "0" else "1"
    return replace(request, url=request.url[:-1] + last)


def outcome(error: StoreError) -> Answer:
    """An error of the store instead of a row's answer."""
    if isinstance(error, Transient):
        return inconclusive(str(error))
    return failed(str(error))


def md5_hex(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _md5(body: bytes | None) -> bytes | None:
    return None if body is None else hashlib.md5(body, usedforsecurity=False).digest()


def _length(body: bytes, length: int | None) -> int:
    return len(body) if length is None else length


def _put(key: str, body: bytes, length: int | None, condition: Condition | None) -> PutToSign:
    return PutToSign(
        key=key,
        length=_length(body, length),
        sha256=PartHash.of(body),
        headers=ObjectHeaders(),
        condition=condition,
    )
