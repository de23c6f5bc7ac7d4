"""Headers and parameters of S3, between our values and the wire: preconditions, ETags, stored headers."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, TypedDict

from botocore.utils import parse_timestamp

from putgate_storage.store import Condition, IfAbsent, IfMatch, ObjectHeaders, PutToSign

CONTENT_ENCODING = "identity"
"""Bytes are stored as they are; said and signed, so that the holder of a request cannot say otherwise."""

_CACHE_CONTROL = "no-cache"
"""What is stored where nobody asked for anything: a name's content may change."""


class ConditionParameters(TypedDict, total=False):
    IfMatch: str
    IfNoneMatch: str


def cache_control(headers: ObjectHeaders) -> str:
    return headers.cache_control or _CACHE_CONTROL


def if_match(etag: str, *, quoted: bool) -> str:
    """HTTP wants an ETag in quotes; `quoted`: False for a store that compares them too, and never finds a match."""
    return f'"{etag}"' if quoted else etag


def condition_parameters(condition: Condition | None, *, quoted: bool = True) -> ConditionParameters:
    """As botocore's methods take a precondition. `quoted`: see `if_match`."""
    match condition:
        case IfAbsent():
            return {"IfNoneMatch": "*"}
        case IfMatch(etag=etag):
            return {"IfMatch": if_match(etag, quoted=quoted)}
        case None:
            return {}


def condition_headers(condition: Condition | None, *, quoted: bool = True) -> dict[str, str]:
    """As HTTP says a precondition. `quoted`: see `if_match`."""
    match condition:
        case IfAbsent():
            return {"if-none-match": "*"}
        case IfMatch(etag=etag):
            return {"if-match": if_match(etag, quoted=quoted)}
        case None:
            return {}


def put_headers(put: PutToSign, *, quoted: bool = True) -> dict[str, str]:
    """Every header that a PutObject may store or depend on, so that all of them are signed. `quoted`: as `if_match`."""
    headers = {
        "content-length": str(put.length),
        "content-type": put.headers.content_type,
        "content-encoding": CONTENT_ENCODING,
        "cache-control": cache_control(put.headers),
        "x-amz-checksum-sha256": put.sha256.base64,
    }
    if put.md5 is not None:
        headers["content-md5"] = base64.b64encode(put.md5).decode("ascii")
    headers |= {f"x-amz-meta-{name}": value for name, value in put.headers.metadata.items()}
    return headers | condition_headers(put.condition, quoted=quoted)


def parse_time(value: str) -> datetime:
    """A time as S3 writes it in listings, and, many times slower, as anybody else does. Raises `ValueError`."""
    if value.endswith("Z"):
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    return parse_timestamp(value)


def unquoted(etag: str) -> str:
    return etag.strip('"')


def date_header(answer: Mapping[str, Any]) -> str | None:
    """The `Date` of an answer (or error response) as botocore gives it."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return date if isinstance(date, str) else None
