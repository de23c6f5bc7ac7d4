"""A sample of each kind of signed request against real stores: accepted as it is, refused with any field changed.

What a store lets pass all the same is written down in `LETS_PASS`, and is asserted as exactly as the rest.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import aiohttp
import pytest
from yarl import URL

from putgate_protocol.digests import PartHash
from putgate_protocol.names import encode
from putgate_storage.s3.driver import S3Store
from putgate_storage.store import IfAbsent, IfMatch, ObjectHeaders, PartToSign, PutToSign, SignedRequest

LIFE = timedelta(minutes=1)
BODY = b"the declared bytes"
OTHER = b"other bytes, longer"[: len(BODY)]
SOURCE = "{source}"
NAMES = [b"plain.bin", "a b+c/ü%&?#=🙂\n\\.txt".encode(), b"~tilde*'()!;:@,$\xff"]
STORES = {"SeaweedFS": "s3_store", "MinIO": "minio_store", "Ceph": "ceph_store"}
LETS_PASS: Mapping[str, frozenset[str]] = {
    "SeaweedFS": frozenset(),
    "MinIO": frozenset(
        {
            "x-amz-copy-source",
            "x-amz-acl",
            "x-amz-grant-read",
            "x-amz-tagging",
            "x-amz-website-redirect-location",
        }
    ),
    "Ceph": frozenset(
        {
            "body under SHA-256 alone",
            "x-amz-copy-source",
            "x-amz-acl",
            "x-amz-grant-read",
            "x-amz-tagging",
            "x-amz-meta-more",
            "x-amz-website-redirect-location",
        }
    ),
}
AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


@pytest.fixture(params=["SeaweedFS", "MinIO", pytest.param("Ceph", marks=pytest.mark.slow)])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(request: pytest.FixtureRequest, provider: str) -> S3Store:
    found = request.getfixturevalue(STORES[provider])
    assert isinstance(found, S3Store)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What a holder sends. `headers` without the length, which is always the body's own."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunked: bool = False

    @classmethod
    def of(cls, request: SignedRequest, body: bytes = b"") -> Attempt:
        headers = {name: value for name, value in request.headers.items() if name != "content-length"}
        return cls(method=request.method, url=request.url, headers=headers, body=body)


async def status(http: aiohttp.ClientSession, attempt: Attempt) -> int:
    async def pieces() -> AsyncIterator[bytes]:
        yield attempt.body

    async with http.request(
        attempt.method,
        URL(attempt.url, encoded=True),
        headers=attempt.headers,
        data=pieces() if attempt.chunked else attempt.body or None,
        skip_auto_headers=AUTOMATIC,
        allow_redirects=False,
    ) as answer:
        await answer.read()
        return answer.status


def changes(attempt: Attempt) -> Iterator[tuple[str, Attempt]]:
    """Every signed field changed, one at a time."""
    yield "method", replace(attempt, method="POST" if attempt.method == "PUT" else "PUT")
    split = urlsplit(attempt.url)
    yield "key", replace(attempt, url=urlunsplit(split._replace(path=f"{split.path}x")))
    yield "host", replace(attempt, headers={**attempt.headers, "host": "elsewhere.example.com"})
    query = parse_qsl(split.query, keep_blank_values=True)
    for index, (name, value) in enumerate(query):
        for what, pairs in (
            ("changed", [*query[:index], (name, changed(value)), *query[index + 1 :]]),
            ("removed", [*query[:index], *query[index + 1 :]]),
        ):
            url = urlunsplit(split._replace(query=urlencode(pairs, quote_via=quote)))
            yield f"query {name} {what}", replace(attempt, url=url)
    yield "query added", replace(attempt, url=f"{attempt.url}&versionId=1")
    for name, value in attempt.headers.items():
        without = {other: kept for other, kept in attempt.headers.items() if other != name}
        yield f"header {name} changed", replace(attempt, headers={**attempt.headers, name: changed_header(name, value)})
        yield f"header {name} removed", replace(attempt, headers=without)
    if attempt.body:
        yield "body", replace(attempt, body=OTHER)
        yield "longer body", replace(attempt, body=attempt.body + b"x")
        yield "shorter body", replace(attempt, body=attempt.body[:-1])
        yield "no length", replace(attempt, chunked=True)


def changed(value: str) -> str:
    return value[:-1] + ("1" if value[-1:] != "1" else "2")


def changed_header(name: str, value: str) -> str:
    """Well formed, so that nothing but the signature (or the bytes) can be the reason of the refusal."""
    match name:
        case "x-amz-checksum-sha256":
            return PartHash.of(OTHER).base64
        case "content-md5":
            return base64.b64encode(hashlib.md5(OTHER).digest()).decode()
        case "if-none-match":
            return '"0123"'
        case _:
            return changed(value)


async def all_refused(http: aiohttp.ClientSession, attempt: Attempt) -> list[str]:
    """Which changes were let pass: none, if all is well."""
    tried = list(changes(attempt))
    statuses = await asyncio.gather(*(status(http, other) for _, other in tried))
    return [what for (what, _), found in zip(tried, statuses, strict=True) if found < 400 or found >= 500]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("with_md5", [False, True])
async def test_upload_part(
    store: S3Store, provider: str, http: aiohttp.ClientSession, prefix: str, name: bytes, with_md5: bool
) -> None:
    upload = await store.create_upload(prefix + encode(name), ObjectHeaders())
    md5 = hashlib.md5(BODY).digest() if with_md5 else None
    part = PartToSign(number=7, length=len(BODY), sha256=PartHash.of(BODY), md5=md5)
    (request,) = await store.sign_parts(upload, [part], LIFE)
    attempt = Attempt.of(request, BODY)
    kept = "body under SHA-256 alone" in LETS_PASS[provider] and not with_md5
    assert await all_refused(http, attempt) == (["body"] if kept else [])
    assert len(await store.list_parts(upload) or []) == kept
    assert await status(http, attempt) == 200
    held = await store.list_parts(upload)
    assert held is not None
    assert [(part.number, part.size) for part in held] == [(7, len(BODY))]
    await store.abort(upload)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("condition", ["absent", "match", "none"])
async def test_put_object(
    store: S3Store, http: aiohttp.ClientSession, prefix: str, name: bytes, condition: str
) -> None:
    key = prefix + encode(name)
    etag = await store.put_small(key, b"before") if condition != "absent" else ""
    put = PutToSign(
        key=key,
        length=len(BODY),
        sha256=PartHash.of(BODY),
        md5=hashlib.md5(BODY).digest(),
        headers=ObjectHeaders(
            content_type="text/x-odd; charset=utf-8",
            cache_control="private, max-age=60",
            metadata={"putgate-upload": "n0nce", "putgate-hash": "abc", "user-said": "two words"},
        ),
        condition={"absent": IfAbsent(), "match": IfMatch(etag=etag), "none": None}[condition],
    )
    attempt = Attempt.of(await store.sign_put(put, LIFE), BODY)
    assert await all_refused(http, attempt) == []
    before = await store.head(key)
    assert (before.etag if before else "") == etag
    assert [entry.key for entry in (await store.list(prefix)).entries] == ([key] if etag else [])
    assert await status(http, attempt) == 200
    stored = await store.get_small(key, 100)
    assert stored is not None
    assert stored.body == BODY
    head = await store.head(key)
    assert head is not None
    assert head.content_type == "text/x-odd; charset=utf-8"
    assert dict(head.metadata) == dict(put.headers.metadata)


@pytest.mark.parametrize("name", NAMES)
async def test_get_object(store: S3Store, http: aiohttp.ClientSession, prefix: str, name: bytes) -> None:
    key = prefix + encode(name)
    await store.put_small(key, BODY)
    request = await store.sign_get(
        key,
        LIFE,
        content_type="application/octet-stream",
        disposition="attachment; filename*=UTF-8''a%20b.txt",
        cache_control="no-store",
    )
    assert await all_refused(http, Attempt.of(request)) == []
    async with http.get(URL(request.url, encoded=True)) as answer:
        assert answer.status == 200
        assert await answer.read() == BODY
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''a%20b.txt"
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "extra",
    [
        {"x-amz-copy-source": SOURCE},
        {"x-amz-acl": "public-read"},
        {"x-amz-grant-read": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'},
        {"x-amz-tagging": "a=b"},
        {"x-amz-meta-more": "1"},
        {"x-amz-storage-class": "GLACIER"},
        {"x-amz-website-redirect-location": "/elsewhere"},
        {"x-amz-server-side-encryption": "AES256"},
    ],
    ids=lambda extra: next(iter(extra)),
)
async def test_unsigned_amz_headers_are_refused(
    store: S3Store, provider: str, http: aiohttp.ClientSession, prefix: str, extra: dict[str, str]
) -> None:
    key = prefix + "x"
    await store.put_small(prefix + "source", OTHER)
    put = PutToSign(key=key, length=len(BODY), sha256=PartHash.of(BODY), headers=ObjectHeaders(), condition=IfAbsent())
    attempt = Attempt.of(await store.sign_put(put, LIFE), BODY)
    ((header, value),) = extra.items()
    value = value.replace(SOURCE, store.copy_source(prefix + "source"))
    found = await status(http, replace(attempt, headers={**attempt.headers, header: value}))
    passes = header in LETS_PASS[provider]
    assert (found == 200) is passes, found
    assert (await store.head(key) is not None) is passes
    assert passes or 400 <= found < 500 or found == 501, found
