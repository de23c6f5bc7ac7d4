"""The signer against botocore's presigner: the same URL, signature included, for everything that goes into one."""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import botocore.session
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from putgate_protocol.digests import PartHash
from putgate_storage.s3.address import Address, Style
from putgate_storage.s3.headers import put_headers
from putgate_storage.s3.sigv4 import Credentials, Signer, Terms, header_value
from putgate_storage.store import IfAbsent, IfMatch, ObjectHeaders, PartToSign, PutToSign, SignedRequest

BUCKET = "my-bucket"
REGION = "eu-central-1"
ENDPOINTS = [
    "http://127.0.0.1:8333",
    "https://s3.example.com",
    "http://s3.example.com:80",
    "https://s3.example.com:443",
    "https://s3.example.com:9443",
    "http://[::1]:9000",
]
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)

# The first example of each place makes a botocore client, which takes far longer than what is tested.
unhurried = settings(deadline=None)

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda key: "//" not in key and not key.startswith("/")
)
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40).filter(str.strip)
tokens = st.none() | st.just("FwoGZXIvYXdzE+/=token//with==")
digests = st.binary(min_size=32, max_size=32).map(PartHash)
md5s = st.none() | st.binary(min_size=16, max_size=16)
lives = st.integers(1, 7 * 24 * 3600)
conditions = (
    st.none() | st.just(IfAbsent()) | st.text("0123456789abcdef-", min_size=1).map(lambda etag: IfMatch(etag=etag))
)
places = st.sampled_from([(endpoint, style) for endpoint in ENDPOINTS for style in ("Path", "Virtual")])


@functools.cache
def botocore_client(endpoint: str, style: str, token: str | None) -> Any:
    return botocore.session.Session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="wJalr/secret+key",
        aws_session_token=token,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": style.lower()},
            request_checksum_calculation="when_required",
        ),
    )


def terms_of(url: str, token: str | None, life: int) -> Terms:
    """The same moment as in botocore's URL, whose clock cannot be set."""
    date = dict(parse_qsl(urlsplit(url).query))["X-Amz-Date"]
    credentials = Credentials(access_key="AKIDEXAMPLE", secret_key="wJalr/secret+key", token=token)
    return Terms(credentials=credentials, now=datetime.strptime(date, "%Y%m%dT%H%M%S%z"), life=life)


def taken_apart(url: str) -> tuple[str, str | None, int | None, str, list[tuple[str, str]]]:
    split = urlsplit(url)
    port = split.port or {"http": 80, "https": 443}[split.scheme]
    return split.scheme, split.hostname, port, split.path, sorted(parse_qsl(split.query, keep_blank_values=True))


def signer(place: tuple[str, Style]) -> Signer:
    return Signer(Address.of(place[0], BUCKET, place[1]), REGION)


@unhurried
@given(
    place=places,
    token=tokens,
    key=keys,
    upload_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    number=st.integers(1, 10_000),
    length=st.integers(0, 5 * 1024**3),
    sha256=st.none() | digests,
    md5=md5s,
    life=lives,
)
def test_parts_equal_botocore(
    place: tuple[str, Style],
    token: str | None,
    key: str,
    upload_id: str,
    number: int,
    length: int,
    sha256: PartHash | None,
    md5: bytes | None,
    life: int,
) -> None:
    part = PartToSign(number=number, length=length, sha256=sha256, md5=md5)
    optional = {
        "ChecksumSHA256": sha256.base64 if sha256 is not None else None,
        "ContentMD5": base64.b64encode(md5).decode() if md5 is not None else None,
    }
    theirs = botocore_client(*place, token).generate_presigned_url(
        "upload_part",
        Params={
            "Bucket": BUCKET,
            "Key": key,
            "UploadId": upload_id,
            "PartNumber": number,
            "ContentLength": length,
            **{name: value for name, value in optional.items() if value is not None},
        },
        ExpiresIn=life,
    )
    (ours,) = signer(place).sign_parts(key, upload_id, [part], terms_of(theirs, token, life))
    assert taken_apart(ours.url) == taken_apart(theirs)
    assert ours.method == "PUT"
    assert set(ours.headers) == signed_headers(ours) - {"host"}


@unhurried
@given(
    place=places,
    token=tokens,
    key=keys,
    method=st.sampled_from(["HEAD", "GET", "PUT", "DELETE"]),
    headers=st.dictionaries(
        st.sampled_from(["cache-control", "content-type", "if-match", "x-amz-checksum-sha256", "x-amz-meta-a"]),
        printable,
    ),
    body=st.binary(),
)
def test_requests_equal_botocore(
    place: tuple[str, Style], token: str | None, key: str, method: str, headers: dict[str, str], body: bytes
) -> None:
    made = signer(place)
    theirs = AWSRequest(method, made.address.url(made.address.path(key)), headers=headers, data=body)
    S3SigV4Auth(BotoCredentials("AKIDEXAMPLE", "wJalr/secret+key", token), "s3", REGION).add_auth(theirs)
    date = datetime.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%S%z")
    credentials = Credentials(access_key="AKIDEXAMPLE", secret_key="wJalr/secret+key", token=token)
    ours = made.authorize(method, key, credentials, date, headers=headers, body=body)
    assert ours.pop("host") == made.address.host
    # What is sent is what is signed, with its runs of spaces folded.
    assert ours == {name.lower(): " ".join(value.split()) for name, value in theirs.headers.items()}


def signed_headers(request: SignedRequest) -> set[str]:
    return set(dict(parse_qsl(urlsplit(request.url).query))["X-Amz-SignedHeaders"].split(";"))


@unhurried
@given(
    place=places,
    token=tokens,
    key=keys,
    length=st.integers(0, 5 * 1024**3),
    sha256=digests,
    md5=md5s,
    content_type=printable,
    cache_control=st.none() | printable,
    metadata=st.dictionaries(st.from_regex(r"[a-z0-9](-?[a-z0-9]){0,15}", fullmatch=True), printable, max_size=4),
    condition=conditions,
    life=lives,
)
def test_puts_equal_botocore(
    place: tuple[str, Style],
    token: str | None,
    key: str,
    length: int,
    sha256: PartHash,
    md5: bytes | None,
    content_type: str,
    cache_control: str | None,
    metadata: Mapping[str, str],
    condition: IfAbsent | IfMatch | None,
    life: int,
) -> None:
    put = PutToSign(
        key=key,
        length=length,
        sha256=sha256,
        md5=md5,
        headers=ObjectHeaders(content_type=content_type, cache_control=cache_control, metadata=metadata),
        condition=condition,
    )
    headers = put_headers(put)
    parameters = {
        "ContentMD5": headers.get("content-md5"),
        "IfNoneMatch": headers.get("if-none-match"),
        "IfMatch": headers.get("if-match"),
    }
    theirs = botocore_client(*place, token).generate_presigned_url(
        "put_object",
        Params={
            "Bucket": BUCKET,
            "Key": key,
            "ContentLength": length,
            "ChecksumSHA256": sha256.base64,
            "ContentType": content_type,
            "ContentEncoding": headers["content-encoding"],
            "CacheControl": headers["cache-control"],
            "Metadata": metadata,
            **{name: value for name, value in parameters.items() if value is not None},
        },
        ExpiresIn=life,
    )
    ours = signer(place).sign("PUT", key, terms_of(theirs, token, life), headers=headers)
    assert taken_apart(ours.url) == taken_apart(theirs)
    assert set(ours.headers) == signed_headers(ours) - {"host"}
    for name in metadata:
        assert f"x-amz-meta-{name}" in signed_headers(ours)


@unhurried
@given(
    place=places,
    token=tokens,
    key=keys,
    overrides=st.fixed_dictionaries(
        {},
        optional={
            name: st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
            for name in ("response-content-type", "response-content-disposition", "response-cache-control")
        },
    ),
    life=lives,
)
def test_gets_equal_botocore(
    place: tuple[str, Style], token: str | None, key: str, overrides: Mapping[str, str], life: int
) -> None:
    parameters = {"".join(word.capitalize() for word in name.split("-")): value for name, value in overrides.items()}
    theirs = botocore_client(*place, token).generate_presigned_url(
        "get_object", Params={"Bucket": BUCKET, "Key": key, **parameters}, ExpiresIn=life
    )
    ours = signer(place).sign("GET", key, terms_of(theirs, token, life), query=overrides)
    assert taken_apart(ours.url) == taken_apart(theirs)
    assert ours.headers == {}


@unhurried
@given(
    method=st.sampled_from(["PUT", "GET", "DELETE", "HEAD"]),
    key=keys,
    headers=st.dictionaries(
        st.sampled_from(["content-type", "content-encoding", "x-amz-meta-a-b", "x-amz-checksum-sha256", "if-match"]),
        printable,
    ),
    query=st.dictionaries(st.from_regex(r"[a-z][a-zA-Z-]{0,10}", fullmatch=True), printable, max_size=3),
)
def test_any_request_equals_botocores_signature(
    method: str, key: str, headers: Mapping[str, str], query: Mapping[str, str]
) -> None:
    """Below its client, botocore signs whatever it is given."""
    address = Address.of("https://s3.example.com:9443", BUCKET, "Path")
    request = AWSRequest(method=method, url=address.url(address.path(key)), headers=dict(headers), params=dict(query))
    S3SigV4QueryAuth(BotoCredentials("AKIDEXAMPLE", "wJalr/secret+key"), "s3", REGION, expires=60).add_auth(request)
    ours = Signer(address, REGION).sign(method, key, terms_of(request.url, None, 60), headers=headers, query=query)
    assert taken_apart(ours.url) == taken_apart(request.url)


def terms(*, now: datetime = NOW, secret: str = "secret", life: int = 60) -> Terms:
    return Terms(credentials=Credentials(access_key="key", secret_key=secret), now=now, life=life)


def test_what_is_kept_follows_what_it_came_from() -> None:
    shared = signer(("https://s3.example.com", "Path"))
    several = [
        terms(),
        terms(now=NOW + timedelta(days=1)),
        terms(secret="rotated"),
        terms(life=61),
        terms(now=NOW + timedelta(seconds=1)),
        Terms(credentials=Credentials(access_key="other", secret_key="secret"), now=NOW, life=60),
        Terms(credentials=Credentials(access_key="key", secret_key="secret", token="t"), now=NOW, life=60),
        terms(),
    ]
    for each in several:
        fresh = signer(("https://s3.example.com", "Path"))
        assert shared.sign("GET", "x", each) == fresh.sign("GET", "x", each)


def test_the_expiry_is_in_the_url_and_beside_it() -> None:
    request = signer(("https://s3.example.com", "Path")).sign("GET", "x", terms(now=NOW.replace(microsecond=900_000)))
    assert request.expires_at == NOW + timedelta(seconds=60)
    assert dict(parse_qsl(urlsplit(request.url).query))["X-Amz-Expires"] == "60"


@pytest.mark.parametrize("life", [0, -1, 7 * 24 * 3600 + 1])
def test_impossible_lives_are_refused(life: int) -> None:
    with pytest.raises(ValueError, match="lives"):
        terms(life=life)


@pytest.mark.parametrize("value", ["a\nb", "a\r\nx-amz-acl: public-read", "é", "\x7f", "\x00"])
def test_headers_that_http_would_change_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="content-type"):
        signer(("https://s3.example.com", "Path")).sign("PUT", "x", terms(), headers={"content-type": value})


def test_runs_of_spaces_are_one_space_in_what_is_sent() -> None:
    assert header_value("a", " x   y ") == "x y"


def test_no_repr_shows_a_secret() -> None:
    credentials = Credentials(access_key="key", secret_key="hush", token="hush-token")
    assert "hush" not in repr(credentials)
    assert "hush" not in repr(Terms(credentials=credentials, now=NOW, life=1))


@pytest.mark.parametrize("endpoint", ["ftp://x", "http://", "http://x/path", "http://x?q=1", "x"])
def test_odd_endpoints_are_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        Address.of(endpoint, BUCKET, "Path")
