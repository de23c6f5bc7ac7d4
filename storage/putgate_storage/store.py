"""What Putgate needs of an object store: one small core Protocol, and one per optional ability.

What a driver implements decides what the API offers: no method raises "not supported" for an ability that the
driver does not declare. The contract of each method is its docstring, and `tests/storage/contract.py` holds every
driver to it. Errors: `errors`. Absent things are None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from putgate_protocol.digests import PartHash


@dataclass(frozen=True, slots=True, kw_only=True)
class IfAbsent:
    """Only when nothing is stored under the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IfMatch:
    """Only when the key's present ETag is this one (unquoted, as the store gave it)."""

    etag: str


Condition = IfAbsent | IfMatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """An object's metadata. `date`: the store's clock in this very answer, so that ages need no local clock."""

    size: int
    etag: str
    modified: datetime
    date: datetime
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User metadata, keys in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Small:
    """A small object, read whole."""

    body: bytes
    etag: str
    modified: datetime
    date: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUpload:
    """An open multipart upload, as the store names it."""

    key: str
    upload_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenUpload:
    """An open multipart upload in a listing. `initiated`: None where the store does not say."""

    upload: StoreUpload
    initiated: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPage:
    """One page of open uploads. `token`: for the next page; None at the end."""

    uploads: Sequence[OpenUpload]
    token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPart:
    """A part that the store holds."""

    number: int
    size: int
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedPart:
    """A part that the store copied by itself. `sha256`: None where the store does not say."""

    etag: str
    sha256: PartHash | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedPart:
    """A part as complete names it. `sha256`: sent along where the store accepts it."""

    number: int
    etag: str
    sha256: PartHash | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An object in a listing."""

    key: str
    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a listing. `token`: for the next page; None at the end."""

    entries: Sequence[Entry]
    prefixes: Sequence[str]
    token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of an object, or the marker of its deletion."""

    key: str
    version_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionPage:
    """One page of versions. `token`: for the next page; None at the end."""

    versions: Sequence[Version]
    token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialMark:
    """Tells credentials from others without showing them.

    `identity`: whose they are, the same in every process; it may be written down. `value`: changes whenever any of
    them does, its secret too; it means something in this process only.
    """

    identity: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHeaders:
    """What an object is stored with. `metadata` keys are lower case, `[a-z0-9-]`, values printable ASCII."""

    content_type: str = "application/octet-stream"
    cache_control: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartToSign:
    """One UploadPart: its exact length and digests become signed headers."""

    number: int
    length: int
    sha256: PartHash | None
    md5: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutToSign:
    """One PutObject to a final key, with everything that it may store signed."""

    key: str
    length: int
    sha256: PartHash
    headers: ObjectHeaders
    condition: Condition | None
    md5: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """A request to be sent exactly as it stands, by somebody who holds no credentials."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str]
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """What the store's API allows, before the probe has looked. Sizes in bytes.

    `completes_race`: conditional Completes are known to let several win. Only knowledge tells surely: on a busy machine
    requests that were meant to race arrive one by one, and all is well.
    """

    max_parts: int = 10_000
    min_part_size: int = 5 * 1024**2
    max_part_size: int = 5 * 1024**3
    max_object_size: int = 5 * 1024**4
    completes_race: bool = False


class Store(Protocol):
    """The core. One instance serves one bucket; keys are whole keys, with any prefix."""

    @property
    def limits(self) -> StoreLimits: ...

    def reserves(self, key: str) -> bool:
        """Whether the store keeps this key for itself, so that no name may map to it."""
        ...

    def now(self) -> datetime:
        """The store's present time: the local clock moved by the offset seen in the store's last `Date`."""
        ...

    async def create_upload(self, key: str, headers: ObjectHeaders) -> StoreUpload:
        """Open a multipart upload (with composite SHA-256 where supported). A lost answer leaves one open."""
        ...

    async def list_parts(self, upload: StoreUpload) -> Sequence[StoredPart] | None:
        """Every part held, once each, ascending, over all pages; None when there is no such upload."""
        ...

    async def complete(
        self, upload: StoreUpload, parts: Sequence[FinishedPart], condition: Condition | None = None
    ) -> str | None:
        """Publish the upload's parts (ascending) under its key. The new ETag, perhaps empty; None when there is no
        such upload, which may mean that an earlier call succeeded. Raises `ConditionFailed`, `Refused` (a part
        missing or changed).
        """
        ...

    async def abort(self, upload: StoreUpload) -> bool:
        """Drop the upload and its parts. False when the store says that there was none; some (SeaweedFS) never do."""
        ...

    async def head(self, key: str) -> Head | None: ...

    async def get_small(self, key: str, max_bytes: int) -> Small | None:
        """Read an object of at most `max_bytes`; a larger one is `Refused` with code `TooLarge`."""
        ...

    async def put_small(
        self,
        key: str,
        body: bytes,
        *,
        headers: ObjectHeaders | None = None,
        condition: Condition | None = None,
    ) -> str:
        """Write an object in one call; answers its ETag. Raises `ConditionFailed`."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; what is absent already is fine."""
        ...

    async def list(
        self,
        prefix: str,
        *,
        delimiter: str | None = None,
        start_after: str | None = None,
        token: str | None = None,
        limit: int = 1000,
    ) -> Page:
        """One page of keys that begin with `prefix`, in the store's own order: S3 sorts whole keys by their bytes,
        SeaweedFS by segments (`a/b` before `a.txt`). A token that the store does not know is `Refused` or, where
        tokens are keys, a place to go on from; it never leads outside `prefix`.
        """
        ...

    async def sign_parts(
        self, upload: StoreUpload, parts: Sequence[PartToSign], life: timedelta
    ) -> Sequence[SignedRequest]:
        """Sign UploadPart requests. They live at most `life` and never longer than the credentials."""
        ...

    async def sign_put(self, put: PutToSign, life: timedelta) -> SignedRequest:
        """Sign a PutObject."""
        ...

    async def sign_get(
        self,
        key: str,
        life: timedelta,
        *,
        content_type: str | None = None,
        disposition: str | None = None,
        cache_control: str | None = None,
    ) -> SignedRequest:
        """Sign a GetObject, with the answer's headers overridden where given."""
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class ListsUploads(Protocol):
    """The store can say which multipart uploads are open."""

    async def list_uploads(self, prefix: str) -> Sequence[OpenUpload]:
        """Every open upload whose key begins with `prefix`, over all pages."""
        ...

    async def list_uploads_page(self, prefix: str, *, token: str | None = None, limit: int = 1000) -> UploadPage:
        """One page of them. Uploads that end meanwhile move no others across its end."""
        ...


@runtime_checkable
class DeletesIfMatch(Protocol):
    """The store removes an object only if its ETag is the expected one. Some stores ignore the condition and delete
    whatever is there, so nobody may call this before the probe has seen it hold.
    """

    async def delete_if_match(self, key: str, etag: str) -> None:
        """Raises `ConditionFailed`; what is absent is `ConditionFailed` too."""
        ...


@runtime_checkable
class CopiesParts(Protocol):
    """The store fills a part of an upload from an object that it holds. Some answer success and keep something else,
    or ignore `source_etag`: what was copied has to be compared, and the probe says whether copies can be right at all.
    """

    async def copy_part(
        self, upload: StoreUpload, number: int, source: str, *, span: tuple[int, int] | None, source_etag: str | None
    ) -> CopiedPart:
        """Copy from the object under the key `source` of the same bucket. `span`: its first and last byte, inclusive;
        None for the whole object. `source_etag`: only if it still has this one. Raises `ConditionFailed`, `Refused`
        (no such source or upload, a span that is not within the source).
        """
        ...


@runtime_checkable
class ManagesBucket(Protocol):
    """The store can look for its bucket, create it and remove it."""

    async def bucket_exists(self) -> bool: ...

    async def create_bucket(self) -> bool:
        """Create the bucket; one that this account owns already is fine. False where the store says that it was there
        already; some (AWS in us-east-1) never do, so only who saw it absent before may believe a True.
        """
        ...

    async def delete_bucket(self) -> None:
        """Remove the bucket; what is absent already is fine. It has to be empty: who calls this has looked, since
        some stores (SeaweedFS) remove a bucket with all that it holds. The others raise `Refused`.
        """
        ...


@runtime_checkable
class ListsVersions(Protocol):
    """The store can say what a bucket keeps of objects that were overwritten or deleted."""

    async def list_versions(self, prefix: str, *, token: str | None = None) -> VersionPage:
        """One page of every version and delete marker of keys that begin with `prefix`, present ones included. A
        bucket without versioning has one of each object. Raises `Unsupported` where this very store has no such call.
        """
        ...

    async def delete_version(self, version: Version) -> None:
        """Remove one version or delete marker for good; what is absent already is fine."""
        ...


@runtime_checkable
class HasCredentials(Protocol):
    """The store is reached with credentials, which may be replaced while the process runs."""

    async def credential_mark(self) -> CredentialMark:
        """Of those that a call would use now. Costs no call to the store. Raises `Permanent`, `Transient`."""
        ...


@runtime_checkable
class ExpiresUploads(Protocol):
    """The store drops incomplete uploads by itself, by a lifecycle rule."""

    async def ensure_abort_rule(self, rule_id: str, prefix: str, days: int) -> None:
        """Have exactly this rule under `rule_id` and leave every other rule as it is. GET; PUT when it differs; GET
        again and compare. Raises `Unsupported` or `Refused` where the store does not let us.
        """
        ...


@runtime_checkable
class AllowsOrigins(Protocol):
    """The store lets web pages of other origins use its signed URLs, by a CORS rule."""

    async def ensure_cors_rule(self, rule_id: str, origins: Sequence[str]) -> None:
        """Have exactly one rule under `rule_id`, for these origins (`*`: all), or none where there are no origins; and
        leave every other rule as it is. GET; write when it differs; GET again and compare. Raises `Unsupported` or
        `Refused` where the store does not let us.
        """
        ...


@runtime_checkable
class Probeable(Protocol):
    """The store can be looked at as the probe needs it."""

    def probe_view(self, *, age: timedelta = timedelta(0)) -> Store:
        """The same store over the same connections, but: URLs are for the endpoint that this process dials, which
        may not be the one that clients reach; they are signed as if `age` ago; and parts are listed in pages of
        two, so that paging is seen. Not to be closed.
        """
        ...

    def copy_source(self, key: str) -> str:
        """How a copy request's header would name this key: what a holder could smuggle in."""
        ...
