"""An object store in memory, as strict as the strictest real one: what it lets pass, every good store lets pass.

For tests and for trying things out; nothing outlives the process. Its signed requests cannot go over a network:
`send` plays the store's side of them. Every method runs to its end without yielding, so conditional writes are
atomic. No error is simulated here; a test wraps it where it wants some.
"""

from __future__ import annotations

import base64
import builtins
import copy
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from putgate_protocol.digests import PartHash
from putgate_storage.errors import ConditionFailed, Permanent, Refused
from putgate_storage.memory_listing import page_of
from putgate_storage.memory_requests import Received, RequestGate
from putgate_storage.store import (
    Condition,
    CopiedPart,
    Entry,
    FinishedPart,
    Head,
    IfAbsent,
    IfMatch,
    ObjectHeaders,
    OpenUpload,
    Page,
    PartToSign,
    PutToSign,
    SignedRequest,
    Small,
    StoredPart,
    StoreLimits,
    StoreUpload,
    UploadPage,
)

MAX_KEY_BYTES = 1024
_STATUS = {"SignatureDoesNotMatch": 403, "RequestExpired": 403, "HeadersNotSigned": 403, "NoSuchUpload": 404}


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _never(_: str) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """What is under a key. `sha256`: the composite one (`…-N`) of a multipart upload, as S3 writes checksums."""

    body: bytes
    etag: str
    sha256: str
    modified: datetime
    headers: ObjectHeaders


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenUpload:
    upload: StoreUpload
    headers: ObjectHeaders
    initiated: datetime
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortRule:
    prefix: str
    days: int


class MemoryStore:
    """One bucket. Implements the core, ListsUploads, CopiesParts, DeletesIfMatch, ManagesBucket, ExpiresUploads and
    Probeable.

    `objects` and `rules` may be looked at and changed by a test; `limits` are usually made small there.
    """

    def __init__(
        self,
        *,
        limits: StoreLimits | None = None,
        clock: Callable[[], datetime] = _utc_now,
        reserves: Callable[[str], bool] = _never,
        exists: bool = True,
        gate: RequestGate | None = None,
    ) -> None:
        self.objects: dict[str, StoredObject] = {}
        self.rules: dict[str, AbortRule] = {}
        self.origins: dict[str, Sequence[str]] = {}
        self._limits = limits or StoreLimits()
        self._clock = clock
        self._reserves = reserves
        self._exists = exists
        self._gate = gate or RequestGate()
        self._uploads: dict[str, _OpenUpload] = {}
        self._sign_age = timedelta(0)

    @property
    def limits(self) -> StoreLimits:
        return self._limits

    def reserves(self, key: str) -> bool:
        return self._reserves(key)

    def now(self) -> datetime:
        return self._clock()

    def probe_view(self, *, age: timedelta = timedelta(0)) -> MemoryStore:
        """The very same store, signing as if `age` ago; it has no pages of parts."""
        view = copy.copy(self)
        view._sign_age = age  # noqa: SLF001 - a view of ourselves
        return view

    def copy_source(self, key: str) -> str:
        return f"/memory/{key}"

    async def aclose(self) -> None:
        """Nothing is held; what was stored stays readable for the test."""

    # --- uploads ---

    async def create_upload(self, key: str, headers: ObjectHeaders) -> StoreUpload:
        self._check_writable(key, headers)
        upload = StoreUpload(key=key, upload_id=secrets.token_hex(16))
        self._uploads[upload.upload_id] = _OpenUpload(upload=upload, headers=headers, initiated=self._second())
        return upload

    async def list_parts(self, upload: StoreUpload) -> builtins.list[StoredPart] | None:
        found = self._upload(upload)
        if found is None:
            return None
        return [
            StoredPart(number=number, size=len(body), etag=_md5(body)) for number, body in sorted(found.parts.items())
        ]

    async def complete(
        self, upload: StoreUpload, parts: Sequence[FinishedPart], condition: Condition | None = None
    ) -> str | None:
        found = self._upload(upload)
        if found is None:
            return None
        bodies = self._finished(found, parts)
        self.check_condition(upload.key, condition)
        del self._uploads[upload.upload_id]
        return self._publish(upload.key, bodies, found.headers)

    async def abort(self, upload: StoreUpload) -> bool:
        found = self._upload(upload)
        if found is None:
            return False
        del self._uploads[upload.upload_id]
        return True

    async def copy_part(
        self, upload: StoreUpload, number: int, source: str, *, span: tuple[int, int] | None, source_etag: str | None
    ) -> CopiedPart:
        found, taken = self._upload(upload), self.objects.get(source)
        if found is None or taken is None:
            missing = f"upload to {upload.key!r}" if found is None else f"object {source!r}"
            raise Refused(f"there is no {missing}", code="NoSuchUpload" if found is None else "NoSuchKey")
        if source_etag is not None and taken.etag != source_etag:
            raise ConditionFailed(f"{source!r} is not as expected", code="PreconditionFailed")
        first, last = span or (0, len(taken.body) - 1)
        if span is not None and not 0 <= first <= last < len(taken.body):
            raise Refused(f"{source!r} has no bytes {first} to {last}", code="InvalidRange")
        self._take_part(found, number, taken.body[first : last + 1])
        body = found.parts[number]
        return CopiedPart(etag=_md5(body), sha256=PartHash.of(body))

    async def list_uploads(self, prefix: str) -> builtins.list[OpenUpload]:
        self._check_exists()
        found = [each for each in self._uploads.values() if each.upload.key.startswith(prefix)]
        found.sort(key=lambda each: (each.upload.key.encode(), each.initiated))
        return [OpenUpload(upload=each.upload, initiated=each.initiated) for each in found]

    async def list_uploads_page(self, prefix: str, *, token: str | None = None, limit: int = 1000) -> UploadPage:
        places = {_place(found.upload): found for found in await self.list_uploads(prefix)}
        ahead = sorted(place for place in places if token is None or place > token)
        return UploadPage(
            uploads=[places[place] for place in ahead[:limit]], token=ahead[limit - 1] if len(ahead) > limit else None
        )

    # --- objects ---

    async def head(self, key: str) -> Head | None:
        self._check_exists()
        found = self.objects.get(key)
        if found is None:
            return None
        return Head(
            size=len(found.body),
            etag=found.etag,
            modified=found.modified,
            date=self._second(),
            content_type=found.headers.content_type,
            metadata=dict(found.headers.metadata),
        )

    async def get_small(self, key: str, max_bytes: int) -> Small | None:
        self._check_exists()
        found = self.objects.get(key)
        if found is None:
            return None
        if len(found.body) > max_bytes:
            raise Refused(f"GetObject {key!r}: larger than {max_bytes} bytes", code="TooLarge")
        return Small(body=found.body, etag=found.etag, modified=found.modified, date=self._second())

    async def put_small(
        self,
        key: str,
        body: bytes,
        *,
        headers: ObjectHeaders | None = None,
        condition: Condition | None = None,
    ) -> str:
        headers = headers or ObjectHeaders()
        self._check_writable(key, headers)
        self.check_condition(key, condition)
        return self._put(key, body, headers)

    async def delete(self, key: str) -> None:
        self._check_exists()
        self.objects.pop(key, None)

    async def delete_if_match(self, key: str, etag: str) -> None:
        self._check_exists()
        self.check_condition(key, IfMatch(etag=etag))
        del self.objects[key]

    async def list(
        self,
        prefix: str,
        *,
        delimiter: str | None = None,
        start_after: str | None = None,
        token: str | None = None,
        limit: int = 1000,
    ) -> Page:
        self._check_exists()
        rows = page_of(self.objects, prefix, delimiter=delimiter, start_after=start_after, token=token, limit=limit)
        entries = [self._entry(key) for key in rows.keys]
        return Page(entries=entries, prefixes=rows.prefixes, token=rows.token)

    # --- signing, and what a holder of a signed request does ---

    async def sign_parts(
        self, upload: StoreUpload, parts: Sequence[PartToSign], life: timedelta
    ) -> builtins.list[SignedRequest]:
        now = self._sign_time()
        return [
            self._gate.sign(
                "PUT",
                upload.key,
                now=now,
                life=life,
                query={"partNumber": str(part.number), "uploadId": upload.upload_id},
                headers=_digest_headers(part),
            )
            for part in parts
        ]

    async def sign_put(self, put: PutToSign, life: timedelta) -> SignedRequest:
        headers = _digest_headers(put) | {"content-type": put.headers.content_type}
        headers |= {f"x-amz-meta-{name}": value for name, value in put.headers.metadata.items()}
        if put.headers.cache_control is not None:
            headers["cache-control"] = put.headers.cache_control
        match put.condition:
            case IfAbsent():
                headers["if-none-match"] = "*"
            case IfMatch(etag=etag):
                headers["if-match"] = f'"{etag}"'
            case None:
                pass
        return self._gate.sign("PUT", put.key, now=self._sign_time(), life=life, headers=headers)

    async def sign_get(
        self,
        key: str,
        life: timedelta,
        *,
        content_type: str | None = None,
        disposition: str | None = None,
        cache_control: str | None = None,
    ) -> SignedRequest:
        overrides = {
            "response-cache-control": cache_control,
            "response-content-disposition": disposition,
            "response-content-type": content_type,
        }
        query = {name: value for name, value in overrides.items() if value is not None}
        return self._gate.sign("GET", key, now=self._sign_time(), life=life, query=query)

    async def send(self, request: SignedRequest, body: bytes, extra: Mapping[str, str] | None = None) -> int:
        """Play the store's side of a signed request, with `extra` headers beside the signed ones: its HTTP status."""
        try:
            received = self._gate.admit(request, body, extra or {}, self._clock())
            if received.method == "GET":
                return 200 if received.key in self.objects else 404
            if "uploadId" in received.query:
                self.take_part(received)
            else:
                self.take_put(received)
        except ConditionFailed:
            return 412
        except Refused as refused:
            return _STATUS.get(refused.code, 400)
        return 200

    async def fetch(self, request: SignedRequest) -> bytes | None:
        """Play the store's side of a signed GET: the bytes, or None where there is nothing. Raises `Refused`."""
        received = self._gate.admit(request, b"", {}, self._clock())
        found = self.objects.get(received.key)
        return None if found is None else found.body

    def take_part(self, received: Received) -> None:
        upload = StoreUpload(key=received.key, upload_id=received.query["uploadId"])
        found = self._upload(upload)
        if found is None:
            raise Refused("there is no such upload", code="NoSuchUpload")
        self._take_part(found, int(received.query["partNumber"]), received.body)

    def take_put(self, received: Received) -> None:
        headers = ObjectHeaders(
            content_type=received.headers.get("content-type", "binary/octet-stream"),
            cache_control=received.headers.get("cache-control"),
            metadata={
                name.removeprefix("x-amz-meta-"): value
                for name, value in received.headers.items()
                if name.startswith("x-amz-meta-")
            },
        )
        self._check_writable(received.key, headers)
        self.check_condition(received.key, _condition(received.headers))
        self._put(received.key, received.body, headers)

    # --- the bucket ---

    async def bucket_exists(self) -> bool:
        return self._exists

    async def create_bucket(self) -> bool:
        made, self._exists = not self._exists, True
        return made

    async def delete_bucket(self) -> None:
        if self.objects or self._uploads:
            raise Refused("the bucket is not empty", code="BucketNotEmpty")
        self._exists = False

    async def ensure_abort_rule(self, rule_id: str, prefix: str, days: int) -> None:
        self._check_exists()
        self.rules[rule_id] = AbortRule(prefix=prefix, days=days)

    async def ensure_cors_rule(self, rule_id: str, origins: Sequence[str]) -> None:
        self._check_exists()
        if origins:
            self.origins[rule_id] = tuple(origins)
        else:
            self.origins.pop(rule_id, None)

    # --- inside ---

    def check_condition(self, key: str, condition: Condition | None) -> None:
        found = self.objects.get(key)
        match condition:
            case IfAbsent() if found is not None:
                raise ConditionFailed(f"{key!r} exists", code="PreconditionFailed")
            case IfMatch(etag=etag) if found is None or found.etag != etag:
                raise ConditionFailed(f"{key!r} is not as expected", code="PreconditionFailed")
            case _:
                pass

    def _check_exists(self) -> None:
        if not self._exists:
            raise Permanent("the bucket does not exist", code="NoSuchBucket")

    def _check_writable(self, key: str, headers: ObjectHeaders) -> None:
        """Refuse every key that some store folds, loses or cannot hold, and metadata that HTTP would change."""
        self._check_exists()
        size = len(key.encode())
        segments = key.split("/")
        odd = any(segment in ("", ".", "..") for segment in segments) or "\\" in key or not _plain(key)
        if odd or not 1 <= size <= MAX_KEY_BYTES:
            raise Refused(f"{key!r} is not a key that every store can hold", code="KeyInvalid")
        for name, value in headers.metadata.items():
            said = name.replace("-", "a")
            if not (said.isascii() and said.isalnum() and said == said.lower() and value.isascii() and _plain(value)):
                raise Refused(f"metadata {name!r} is not lower case, or not printable ASCII", code="MetadataInvalid")
        if not (headers.content_type.isascii() and _plain(headers.content_type)):
            raise Refused("the content type is not printable ASCII", code="ContentTypeInvalid")

    def _upload(self, upload: StoreUpload) -> _OpenUpload | None:
        self._check_exists()
        found = self._uploads.get(upload.upload_id)
        return found if found is not None and found.upload == upload else None

    def _take_part(self, found: _OpenUpload, number: int, body: bytes) -> None:
        if not 1 <= number <= self._limits.max_parts:
            raise Refused(f"there is no part {number}", code="InvalidArgument")
        found.parts[number] = body

    def _finished(self, found: _OpenUpload, parts: Sequence[FinishedPart]) -> builtins.list[bytes]:
        key = found.upload.key
        numbers = [part.number for part in parts]
        if not numbers or numbers != sorted(set(numbers)):
            raise Refused(f"{key!r}: parts must be given once each, ascending", code="InvalidPartOrder")
        for part in parts:
            body = found.parts.get(part.number)
            if body is None or _md5(body) != part.etag or part.sha256 not in (None, PartHash.of(body)):
                raise Refused(f"{key!r}: part {part.number} is missing or another", code="InvalidPart")
        bodies = [found.parts[number] for number in numbers]
        if any(len(body) < self._limits.min_part_size for body in bodies[:-1]):
            raise Refused(f"{key!r}: a part before the last is too small", code="EntityTooSmall")
        return bodies

    def _publish(self, key: str, bodies: Sequence[bytes], headers: ObjectHeaders) -> str:
        md5 = hashlib.md5(b"".join(bytes.fromhex(_md5(body)) for body in bodies), usedforsecurity=False)
        composite = hashlib.sha256(b"".join(PartHash.of(body) for body in bodies)).digest()
        return self._store(
            key,
            StoredObject(
                body=b"".join(bodies),
                etag=f"{md5.hexdigest()}-{len(bodies)}",
                sha256=f"{base64.b64encode(composite).decode()}-{len(bodies)}",
                modified=self._second(),
                headers=headers,
            ),
        )

    def _put(self, key: str, body: bytes, headers: ObjectHeaders) -> str:
        stored = StoredObject(
            body=body, etag=_md5(body), sha256=PartHash.of(body).base64, modified=self._second(), headers=headers
        )
        return self._store(key, stored)

    def _store(self, key: str, stored: StoredObject) -> str:
        self.objects[key] = stored
        return stored.etag

    def _entry(self, key: str) -> Entry:
        found = self.objects[key]
        return Entry(key=key, size=len(found.body), etag=found.etag, modified=found.modified)

    def _sign_time(self) -> datetime:
        return self._clock() - self._sign_age

    def _second(self) -> datetime:
        """Stores say times in whole seconds."""
        return self._clock().replace(microsecond=0)


def _place(upload: StoreUpload) -> str:
    """Of an upload in listings: by its key, then by its id. No key has a null."""
    return f"{upload.key}\0{upload.upload_id}"


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _plain(text: str) -> bool:
    return all(ord(char) >= 0x20 and char != "\x7f" for char in text)


def _digest_headers(signed: PartToSign | PutToSign) -> dict[str, str]:
    headers = {"content-length": str(signed.length)}
    if signed.sha256 is not None:
        headers["x-amz-checksum-sha256"] = signed.sha256.base64
    if signed.md5 is not None:
        headers["content-md5"] = base64.b64encode(signed.md5).decode()
    return headers


def _condition(headers: Mapping[str, str]) -> Condition | None:
    if headers.get("if-none-match") == "*":
        return IfAbsent()
    if "if-match" in headers:
        return IfMatch(etag=headers["if-match"].strip('"'))
    return None
