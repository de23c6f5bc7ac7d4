"""A store around a store: every call that goes to the store passes through one function, `Around`.

Retrying, limiting and measuring are such functions; none of them knows the methods of a store. What the inner
store can do, the outer one can: the optional abilities are mixed in exactly where the inner store has them, so
`isinstance(store, ListsUploads)` stays truthful. Signing goes to no store and passes straight through.
"""

from __future__ import annotations

import builtins
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Protocol, TypeVar, cast

from putgate_storage.open_uploads import open_uploads
from putgate_storage.store import (
    AllowsOrigins,
    Condition,
    CopiedPart,
    CopiesParts,
    CredentialMark,
    DeletesIfMatch,
    ExpiresUploads,
    FinishedPart,
    HasCredentials,
    Head,
    ListsUploads,
    ListsVersions,
    ManagesBucket,
    ObjectHeaders,
    OpenUpload,
    Page,
    PartToSign,
    Probeable,
    PutToSign,
    SignedRequest,
    Small,
    Store,
    StoredPart,
    StoreLimits,
    StoreUpload,
    UploadPage,
    Version,
    VersionPage,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is being called. `repeatable`: doing it twice is as good as once, also when the first answer was lost.

    Not repeatable: opening an upload (a second one would stay open), a conditional write and a complete (the
    second would fail because the first succeeded); their callers look before they repeat.
    """

    name: str
    repeatable: bool


class Around(Protocol):
    async def __call__(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        """Answer `call()`, called as often and whenever this wants."""
        ...


def wrap(inner: Store, around: Around) -> Store:
    """`inner` with `around` around its calls, and with exactly its abilities."""
    abilities = tuple(mixin for protocol, mixin in _MIXINS.items() if isinstance(inner, protocol))
    return cast("Store", _kind(abilities)(inner, around))


@cache
def _kind(abilities: tuple[type, ...]) -> Callable[[Store, Around], object]:
    return type("Wrapped", (*abilities, _Core), {})


class _Core:
    def __init__(self, inner: Store, around: Around) -> None:
        self._inner = inner
        self._around = around

    @property
    def limits(self) -> StoreLimits:
        return self._inner.limits

    def reserves(self, key: str) -> bool:
        return self._inner.reserves(key)

    def now(self) -> datetime:
        return self._inner.now()

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def create_upload(self, key: str, headers: ObjectHeaders) -> StoreUpload:
        return await self._around(_once("create_upload"), lambda: self._inner.create_upload(key, headers))

    async def list_parts(self, upload: StoreUpload) -> Sequence[StoredPart] | None:
        return await self._around(_again("list_parts"), lambda: self._inner.list_parts(upload))

    async def complete(
        self, upload: StoreUpload, parts: Sequence[FinishedPart], condition: Condition | None = None
    ) -> str | None:
        return await self._around(_once("complete"), lambda: self._inner.complete(upload, parts, condition))

    async def abort(self, upload: StoreUpload) -> bool:
        return await self._around(_again("abort"), lambda: self._inner.abort(upload))

    async def head(self, key: str) -> Head | None:
        return await self._around(_again("head"), lambda: self._inner.head(key))

    async def get_small(self, key: str, max_bytes: int) -> Small | None:
        return await self._around(_again("get_small"), lambda: self._inner.get_small(key, max_bytes))

    async def put_small(
        self,
        key: str,
        body: bytes,
        *,
        headers: ObjectHeaders | None = None,
        condition: Condition | None = None,
    ) -> str:
        return await self._around(
            Operation(name="put_small", repeatable=condition is None),
            lambda: self._inner.put_small(key, body, headers=headers, condition=condition),
        )

    async def delete(self, key: str) -> None:
        return await self._around(_again("delete"), lambda: self._inner.delete(key))

    async def list(
        self,
        prefix: str,
        *,
        delimiter: str | None = None,
        start_after: str | None = None,
        token: str | None = None,
        limit: int = 1000,
    ) -> Page:
        return await self._around(
            _again("list"),
            lambda: self._inner.list(prefix, delimiter=delimiter, start_after=start_after, token=token, limit=limit),
        )

    async def sign_parts(
        self, upload: StoreUpload, parts: Sequence[PartToSign], life: timedelta
    ) -> Sequence[SignedRequest]:
        return await self._inner.sign_parts(upload, parts, life)

    async def sign_put(self, put: PutToSign, life: timedelta) -> SignedRequest:
        return await self._inner.sign_put(put, life)

    async def sign_get(
        self,
        key: str,
        life: timedelta,
        *,
        content_type: str | None = None,
        disposition: str | None = None,
        cache_control: str | None = None,
    ) -> SignedRequest:
        return await self._inner.sign_get(
            key, life, content_type=content_type, disposition=disposition, cache_control=cache_control
        )


class _Lists(_Core):
    async def list_uploads(self, prefix: str) -> builtins.list[OpenUpload]:
        return [found async for found in open_uploads(self, prefix)]

    async def list_uploads_page(self, prefix: str, *, token: str | None = None, limit: int = 1000) -> UploadPage:
        inner = cast("ListsUploads", self._inner)
        return await self._around(
            _again("list_uploads"), lambda: inner.list_uploads_page(prefix, token=token, limit=limit)
        )


class _DeletesIfMatch(_Core):
    async def delete_if_match(self, key: str, etag: str) -> None:
        inner = cast("DeletesIfMatch", self._inner)
        return await self._around(_once("delete_if_match"), lambda: inner.delete_if_match(key, etag))


class _CopiesParts(_Core):
    async def copy_part(
        self, upload: StoreUpload, number: int, source: str, *, span: tuple[int, int] | None, source_etag: str | None
    ) -> CopiedPart:
        inner = cast("CopiesParts", self._inner)
        return await self._around(
            _again("copy_part"),
            lambda: inner.copy_part(upload, number, source, span=span, source_etag=source_etag),
        )


class _Manages(_Core):
    async def bucket_exists(self) -> bool:
        inner = cast("ManagesBucket", self._inner)
        return await self._around(_again("bucket_exists"), inner.bucket_exists)

    async def create_bucket(self) -> bool:
        inner = cast("ManagesBucket", self._inner)
        return await self._around(_again("create_bucket"), inner.create_bucket)

    async def delete_bucket(self) -> None:
        inner = cast("ManagesBucket", self._inner)
        return await self._around(_again("delete_bucket"), inner.delete_bucket)


class _ListsVersions(_Core):
    async def list_versions(self, prefix: str, *, token: str | None = None) -> VersionPage:
        inner = cast("ListsVersions", self._inner)
        return await self._around(_again("list_versions"), lambda: inner.list_versions(prefix, token=token))

    async def delete_version(self, version: Version) -> None:
        inner = cast("ListsVersions", self._inner)
        return await self._around(_again("delete_version"), lambda: inner.delete_version(version))


class _HasCredentials(_Core):
    async def credential_mark(self) -> CredentialMark:
        return await cast("HasCredentials", self._inner).credential_mark()


class _Expires(_Core):
    async def ensure_abort_rule(self, rule_id: str, prefix: str, days: int) -> None:
        inner = cast("ExpiresUploads", self._inner)
        return await self._around(_again("ensure_abort_rule"), lambda: inner.ensure_abort_rule(rule_id, prefix, days))


class _AllowsOrigins(_Core):
    async def ensure_cors_rule(self, rule_id: str, origins: Sequence[str]) -> None:
        inner = cast("AllowsOrigins", self._inner)
        return await self._around(_again("ensure_cors_rule"), lambda: inner.ensure_cors_rule(rule_id, origins))


class _Probeable(_Core):
    def probe_view(self, *, age: timedelta = timedelta(0)) -> Store:
        return wrap(cast("Probeable", self._inner).probe_view(age=age), self._around)

    def copy_source(self, key: str) -> str:
        return cast("Probeable", self._inner).copy_source(key)


_MIXINS: dict[type, type] = {
    ListsUploads: _Lists,
    DeletesIfMatch: _DeletesIfMatch,
    CopiesParts: _CopiesParts,
    ManagesBucket: _Manages,
    ListsVersions: _ListsVersions,
    HasCredentials: _HasCredentials,
    ExpiresUploads: _Expires,
    AllowsOrigins: _AllowsOrigins,
    Probeable: _Probeable,
}


def _again(name: str) -> Operation:
    return Operation(name=name, repeatable=True)


def _once(name: str) -> Operation:
    return Operation(name=name, repeatable=False)
