"""The in-memory store's signed requests: opaque URLs with a MAC, checked as the strictest real stores check theirs.

Not S3's signature: a test that holds one of these must treat it as a client treats any, as opaque. Each check is
a method of its own, so that a test can have a store which lacks exactly one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from putgate_storage.errors import Refused
from putgate_storage.store import SignedRequest

_BASE = "http://memory.invalid/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request as the store got it. `headers`: lower-case names; what was signed and what came along."""

    method: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class RequestGate:
    """Signs requests, and lets back in only what was signed."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def sign(
        self,
        method: str,
        key: str,
        *,
        now: datetime,
        life: timedelta,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> SignedRequest:
        headers = dict(headers or {})
        expires_at = now.replace(microsecond=0) + timedelta(seconds=int(life.total_seconds()))
        full = {**(query or {}), "expires": str(int(expires_at.timestamp())), "signed": ";".join(sorted(headers))}
        url = f"{_BASE}{quote(key)}?{urlencode(full)}"
        return SignedRequest(
            method=method,
            url=f"{url}&signature={self._mac(method, url, headers)}",
            headers=headers,
            expires_at=expires_at,
        )

    def admit(self, request: SignedRequest, body: bytes, extra: Mapping[str, str], now: datetime) -> Received:
        """Check everything that needs no look at what is stored. Raises `Refused`."""
        split = urlsplit(request.url)
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in {**request.headers, **extra}.items()}
        signed = [name for name in query.get("signed", "").split(";") if name]
        self.check_signature(request, {name: headers.get(name, "") for name in signed})
        self.check_expiry(query, now)
        self.check_extra(signed, headers)
        self.check_length(headers, body)
        self.check_digests(headers, body)
        return Received(
            method=request.method, key=unquote(split.path.lstrip("/")), query=query, headers=headers, body=body
        )

    def check_signature(self, request: SignedRequest, signed: Mapping[str, str]) -> None:
        url, _, signature = request.url.rpartition("&signature=")
        if not hmac.compare_digest(signature.encode(), self._mac(request.method, url, signed).encode()):
            raise Refused("the signature does not match", code="SignatureDoesNotMatch")

    def check_expiry(self, query: Mapping[str, str], now: datetime) -> None:
        if now > datetime.fromtimestamp(int(query["expires"]), UTC):
            raise Refused("the request has expired", code="RequestExpired")

    def check_extra(self, signed: list[str], headers: Mapping[str, str]) -> None:
        for name in headers:
            if name.startswith("x-amz-") and name not in signed:
                raise Refused(f"header {name} is not signed", code="HeadersNotSigned")

    def check_length(self, headers: Mapping[str, str], body: bytes) -> None:
        expected = headers.get("content-length")
        if expected is not None and int(expected) != len(body):
            raise Refused("the body has another length than was signed", code="IncompleteBody")

    def check_digests(self, headers: Mapping[str, str], body: bytes) -> None:
        for header, algorithm in (("x-amz-checksum-sha256", "sha256"), ("content-md5", "md5")):
            expected = headers.get(header)
            found = hashlib.new(algorithm, body, usedforsecurity=False).digest()
            if expected is not None and base64.b64encode(found).decode() != expected:
                raise Refused(f"the body is not what {header} says", code="BadDigest")

    def _mac(self, method: str, url: str, headers: Mapping[str, str]) -> str:
        said = "\n".join([method, url, *(f"{name}:{value}" for name, value in sorted(headers.items()))])
        return hmac.new(self._secret, said.encode(), "sha256").hexdigest()
