"""What is stored: found, described, listed, removed; and the signed way to its bytes.

Nothing below `.putgate/` is ever seen through a name: names cannot contain that segment, and listings leave it out.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from datetime import timedelta

from putgate_api.auth.access import may, require, require_listable
from putgate_api.auth.caller import Caller
from putgate_api.disposition import AS_IT_IS, Policy, Wish, disposition
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.content import Content
from putgate_api.uploads.signing import seconds_until
from putgate_api.uploads.streamed import streamed_nonce, with_record
from putgate_protocol.messages.access_url import AccessUrlAnswer, AccessUrlRequest
from putgate_protocol.messages.base import File
from putgate_protocol.messages.files import ListAnswer
from putgate_protocol.names import RESERVED_SEGMENT, Name, encode
from putgate_protocol.problems import NameProblem, Problem, problem
from putgate_storage.errors import ConditionFailed, Refused
from putgate_storage.store import DeletesIfMatch, Entry, Head, SignedRequest

STORE_PAGES = 10
"""The most LIST pages of the store for one page of answers; then a short page with a cursor."""

_LONGEST = 7 * 24 * 3600
"""Seconds; the most that S3 signs for, above any `download.url_ttl`. A wish beyond it would overflow a timedelta."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A file with what its metadata says; `content` is None for a file of another tool."""

    file: File
    content: Content | None


async def describe(bucket: Bucket, caller: Caller, name: Name) -> Described:
    """Raises `forbidden`, `not_found`."""
    head = await _head(bucket, caller, name)
    content = Content.of(await with_record(bucket.streamed, head))
    return Described(
        file=bucket.file(
            caller,
            name,
            size=head.size,
            version=head.etag,
            file_hash=None if content is None else str(content.file_hash),
            modified=head.modified,
            content_type=head.content_type,
        ),
        content=content,
    )


async def signed_get(
    bucket: Bucket,
    caller: Caller,
    name: Name,
    policy: Policy,
    *,
    wish: Wish = AS_IT_IS,
    life: timedelta | None = None,
) -> SignedRequest:
    """The signed GET of a file, for `life` or the bucket's, whichever is shorter. Raises `forbidden`, `not_found`."""
    head = await _head(bucket, caller, name)
    content_type = head.content_type or "application/octet-stream"
    longest = bucket.limits.download_ttl
    return await bucket.store.sign_get(
        bucket.key(name),
        longest if life is None else min(life, longest),
        content_type=content_type,
        disposition=disposition(policy, content_type, name, wish),
        cache_control="private, no-cache",
    )


async def access_url(bucket: Bucket, caller: Caller, request: AccessUrlRequest, policy: Policy) -> AccessUrlAnswer:
    """Raises `forbidden`, `not_found`, `NameProblem`."""
    wish = Wish(filename=request.filename, inline=request.inline)
    life = None if request.expires_in is None else timedelta(seconds=min(request.expires_in, _LONGEST))
    signed = await signed_get(bucket, caller, request.parsed_name(), policy, wish=wish, life=life)
    return AccessUrlAnswer(
        url=signed.url, expires_at=signed.expires_at, expires_in=seconds_until(signed.expires_at, bucket.now())
    )


async def remove(bucket: Bucket, caller: Caller, name: Name, *, if_match: str | None) -> None:
    """`if_match`: a version; only that is removed.

    Raises `forbidden`, `not_found`, `precondition_failed`, `precondition_unsupported`.
    """
    require(caller, "delete", name)
    key = bucket.key(name)
    if if_match is not None and not bucket.abilities.conditional_delete:
        raise problem("precondition_unsupported", "this store does not remove a file only if it has a given version")
    if (head := await bucket.store.head(key)) is None:
        raise _absent(name)
    if if_match is None:
        await bucket.store.delete(key)
    else:
        await _remove_version(bucket, name, head, if_match)
    if (nonce := streamed_nonce(head)) is not None:
        await bucket.streamed.remove(nonce)


async def _remove_version(bucket: Bucket, name: Name, head: Head, version: str) -> None:
    other = problem("precondition_failed", f"{name} does not have the version of If-Match")
    # The store only sees what the version was at our look: a version that is no ETag must not reach it.
    if head.etag != version:
        raise other
    assert isinstance(bucket.store, DeletesIfMatch), "the probe has seen it"
    try:
        await bucket.store.delete_if_match(bucket.key(name), head.etag)
    except ConditionFailed:
        raise other from None


async def _head(bucket: Bucket, caller: Caller, name: Name) -> Head:
    require(caller, "download", name)
    if (head := await bucket.store.head(bucket.key(name))) is None:
        raise _absent(name)
    return head


def _absent(name: Name) -> Problem:
    return problem("not_found", f"there is no file {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a caller asks to list. `prefix`: encoded, as keys are. `limit`: 1 to 1000 files and prefixes."""

    prefix: str
    delimiter: str | None
    limit: int

    @classmethod
    def parse(cls, bucket: Bucket, prefix: bytes, delimiter: str | None, limit: int) -> Listing:
        encoded = encode(prefix)
        folders = prefix.split(b"/")[:-1]
        if RESERVED_SEGMENT in folders:
            raise NameProblem.reserved("lies below a segment that Putgate keeps for itself")
        if not {b"", b".", b".."}.isdisjoint(folders):
            raise NameProblem.invalid("has an empty segment, '.' or '..'")
        if encoded and bucket.store.reserves(bucket.prefix + encoded):
            raise NameProblem.reserved("is one that this store keeps for itself")
        if delimiter not in {None, "/"}:
            raise problem("request_invalid", "the only delimiter is '/'")
        return cls(prefix=encoded, delimiter=delimiter, limit=limit)


async def list_files(bucket: Bucket, caller: Caller, listing: Listing, cursor: str | None) -> ListAnswer:
    """One page. Raises `forbidden` where the caller may list nothing there, `cursor_invalid`."""
    scopes = require_listable(caller, listing.prefix)
    scope, token = _open_cursor(bucket, caller, listing, cursor)
    if scope is not None and scope not in scopes:
        raise problem("cursor_invalid", "what this caller may list has changed; list anew")
    pending = [one for one in scopes if scope is None or one >= scope]
    files: list[File] = []
    folded: list[bytes] = []
    for _ in range(STORE_PAGES):
        if not pending or len(files) + len(folded) >= listing.limit:
            break
        current = pending[0]
        if listing.delimiter and (fold := _folded(current, listing.prefix)) is not None:
            page = await bucket.store.list(bucket.prefix + current, limit=1)
            if page.entries and fold not in folded:
                folded.append(fold)
            pending, token = pending[1:], None
            continue
        try:
            page = await bucket.store.list(
                bucket.prefix + current,
                delimiter=listing.delimiter,
                token=token,
                limit=listing.limit - len(files) - len(folded),
            )
        except Refused as error:
            if token is None:
                raise
            raise problem("cursor_invalid", "the store does not know this cursor any more; list anew") from error
        files.extend(file for entry in page.entries if (file := _listed(bucket, caller, entry)) is not None)
        folded.extend(raw for key in page.prefixes if (raw := _visible_prefix(bucket, key)) is not None)
        token = page.token
        if token is None:
            pending = pending[1:]
    return ListAnswer(
        files=files,
        prefixes=[text for raw in folded if (text := _text(raw)) is not None],
        prefixes_b64=[_b64(raw) for raw in folded if _text(raw) is None],
        cursor=_seal_cursor(bucket, caller, listing, pending[0], token) if pending else None,
    )


def _folded(scope: str, prefix: str) -> bytes | None:
    """The folder directly below `prefix` in which a deeper scope lies, or None where the scope is `prefix` itself."""
    rest = scope[len(prefix) :]
    if not rest:
        return None
    folder = prefix + rest.partition("/")[0]
    name = Name.from_key(folder)
    return None if name is None else name.raw + b"/"


def _listed(bucket: Bucket, caller: Caller, entry: Entry) -> File | None:
    name = Name.from_key(entry.key, bucket.prefix)
    if name is None or bucket.store.reserves(entry.key) or not may(caller, "list", name):
        return None
    return bucket.file(caller, name, size=entry.size, version=entry.etag, modified=entry.modified)


def _visible_prefix(bucket: Bucket, key: str) -> bytes | None:
    name = Name.from_key(key.removesuffix("/"), bucket.prefix)
    return None if name is None or bucket.store.reserves(key) else name.raw + b"/"


def _text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _b64(raw: bytes) -> str:
    return b64encode(raw).decode("ascii")


def _seal_cursor(bucket: Bucket, caller: Caller, listing: Listing, scope: str, token: str | None) -> str:
    payload = [bucket.facts.bucket_id, caller.owner, listing.prefix, listing.delimiter, scope, token]
    return bucket.sealer.seal("cursor", payload)


def _open_cursor(bucket: Bucket, caller: Caller, listing: Listing, cursor: str | None) -> tuple[str | None, str | None]:
    """The scope to go on with and the store's token there. A cursor serves only the question that it came from."""
    if cursor is None:
        return None, None
    invalid = problem("cursor_invalid", "this cursor belongs to another listing, or was cut or changed on its way")
    *question, scope, token = bucket.sealer.open("cursor", cursor, invalid)
    if question != [bucket.facts.bucket_id, caller.owner, listing.prefix, listing.delimiter]:
        raise invalid
    return scope, token
