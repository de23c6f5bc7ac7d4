"""Presigns S3 requests with AWS Signature Version 4 in the query, fast: it is called once per part of every upload.
And, in headers, the requests that the API itself sends most.

Pure: credentials, clock and lives are arguments. What several requests share (day key, canonical halves, URL) is
computed once per call of `sign_parts`. Digests, lengths and preconditions are signed *headers*: in the query
stores ignore them. Bodies are UNSIGNED-PAYLOAD, as in every presigned URL; the signed checksum header binds them.
Never logs, and its values show no secret in their repr.

Source: AWS, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import quote

from putgate_storage.s3.address import Address
from putgate_storage.store import PartToSign, SignedRequest

_ALGORITHM = "AWS4-HMAC-SHA256"
_PAYLOAD = "UNSIGNED-PAYLOAD"
_EMPTY = sha256().hexdigest()

_KEPT = 64
"""Sets of signed headers and seconds whose common half is kept; a batch of PUTs needs a few, each some 500 bytes."""

MAX_LIFE = 7 * 24 * 3600
"""Seconds; S3's limit on X-Amz-Expires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What signs. `expires_at`: None where the credentials last."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Who signs and for how long: shared by all requests of one call. `life` in whole seconds."""

    credentials: Credentials
    now: datetime
    life: int

    def __post_init__(self) -> None:
        if not 1 <= self.life <= MAX_LIFE:
            raise ValueError(f"a signed URL lives 1 to {MAX_LIFE} seconds, not {self.life}")


class Signer:
    """Signs for one address and region."""

    def __init__(self, address: Address, region: str) -> None:
        self.address = address
        self._region = region
        self._day: tuple[str, str] = ("", "")
        self._day_key = b""
        self._prepared: dict[tuple[Terms, str], _Prepared] = {}

    def sign_parts(self, key: str, upload_id: str, parts: Sequence[PartToSign], terms: Terms) -> list[SignedRequest]:
        """UploadPart requests of one upload; each binds its number, length and digests."""
        signer = _PartSigner(self, key, upload_id, terms)
        return [signer.sign(part) for part in parts]

    def sign(
        self,
        method: str,
        key: str,
        terms: Terms,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> SignedRequest:
        """Any request for a key. `query` is signed and in the URL; `headers` (lower-case names, printable ASCII)
        are signed and must be sent. Raises `ValueError` for a header that HTTP could not carry unchanged.
        """
        sent = {name: header_value(name, value) for name, value in sorted((headers or {}).items())}
        signed = sorted([*sent, "host"])
        prepared = self._prepare(terms, ";".join(signed))
        pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in (query or {}).items())
        # X-Amz-… sorts before every lower-case parameter that S3 knows.
        full_query = prepared.query + "".join(f"&{name}={value}" for name, value in pairs)
        values = sent | {"host": self.address.host}
        lines = "".join(f"{name}:{values[name]}\n" for name in signed)
        path = self.address.path(key)
        canonical = f"{method}\n{path}\n{full_query}\n{lines}\n{';'.join(signed)}\n{_PAYLOAD}"
        return SignedRequest(
            method=method,
            url=f"{self.address.url(path)}?{full_query}&X-Amz-Signature={prepared.signature(canonical)}",
            headers=sent,
            expires_at=prepared.expires_at,
        )

    def authorize(
        self,
        method: str,
        key: str,
        credentials: Credentials,
        now: datetime,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> dict[str, str]:
        """Headers of a request without query, for whoever sends it at once themselves: `headers` (lower-case names,
        printable ASCII) and what authorizes them. Raises `ValueError` for one that HTTP could not carry unchanged.

        Source: AWS, "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk".
        """
        stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        payload = sha256(body).hexdigest() if body else _EMPTY
        sent = {"host": self.address.host, "x-amz-content-sha256": payload, "x-amz-date": stamp}
        if credentials.token:
            sent["x-amz-security-token"] = credentials.token
        if headers:
            sent = dict(sorted((sent | {name: header_value(name, value) for name, value in headers.items()}).items()))
        names = ";".join(sent)
        lines = "".join(f"{name}:{value}\n" for name, value in sent.items())
        canonical = f"{method}\n{self.address.path(key)}\n\n{lines}\n{names}\n{payload}"
        scope = f"{stamp[:8]}/{self._region}/s3/aws4_request"
        to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key(credentials.secret_key, stamp[:8]), to_sign.encode(), "sha256").hex()
        said = f"Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        return {**sent, "authorization": f"{_ALGORITHM} {said}"}

    def _prepare(self, terms: Terms, signed_headers: str) -> _Prepared:
        """What is the same for all requests of one second, kept for those that follow at once."""
        whole = replace(terms, now=terms.now.astimezone(UTC).replace(microsecond=0))
        prepared = self._prepared.get((whole, signed_headers))
        if prepared is None:
            if len(self._prepared) >= _KEPT:
                self._prepared.clear()
            prepared = self._prepared[whole, signed_headers] = self._prepare_anew(whole, signed_headers)
        return prepared

    def _prepare_anew(self, terms: Terms, signed_headers: str) -> _Prepared:
        now = terms.now
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/{self._region}/s3/aws4_request"
        credentials = terms.credentials
        query = (
            f"X-Amz-Algorithm={_ALGORITHM}"
            f"&X-Amz-Credential={quote(f'{credentials.access_key}/{scope}', safe='~')}"
            f"&X-Amz-Date={stamp}&X-Amz-Expires={terms.life}"
        )
        if credentials.token:
            query += f"&X-Amz-Security-Token={quote(credentials.token, safe='~')}"
        return _Prepared(
            query=f"{query}&X-Amz-SignedHeaders={quote(signed_headers, safe='~')}",
            to_sign=f"{_ALGORITHM}\n{stamp}\n{scope}\n",
            key=self._key(credentials.secret_key, stamp[:8]),
            expires_at=now + timedelta(seconds=terms.life),
        )

    def _key(self, secret: str, day: str) -> bytes:
        """The signing key of one day, kept until the day or the secret changes."""
        if self._day != (secret, day):
            key = f"AWS4{secret}".encode()
            for scope in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, scope.encode(), "sha256")
            self._day, self._day_key = (secret, day), key
        return self._day_key


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    query: str = field(repr=False)
    to_sign: str
    key: bytes = field(repr=False)
    expires_at: datetime

    def signature(self, canonical: str) -> str:
        digest = sha256(canonical.encode()).hexdigest()
        return hmac.digest(self.key, f"{self.to_sign}{digest}".encode(), "sha256").hex()


class _PartSigner:
    """Everything that the parts of one upload share, for one set of signed headers."""

    def __init__(self, signer: Signer, key: str, upload_id: str, terms: Terms) -> None:
        self._signer = signer
        self._terms = terms
        self._path = signer.address.path(key)
        self._upload = f"&uploadId={quote(upload_id, safe='~')}"
        self._shapes: dict[tuple[bool, bool], _Shape] = {}

    def sign(self, part: PartToSign) -> SignedRequest:
        kind = (part.sha256 is not None, part.md5 is not None)
        shape = self._shapes.get(kind) or self._shape(kind)
        headers = {"content-length": str(part.length)}
        lines = f"content-length:{part.length}\n"
        if part.md5 is not None:
            headers["content-md5"] = md5 = base64.b64encode(part.md5).decode("ascii")
            lines += f"content-md5:{md5}\n"
        lines += shape.host_line
        if part.sha256 is not None:
            headers["x-amz-checksum-sha256"] = checksum = part.sha256.base64
            lines += f"x-amz-checksum-sha256:{checksum}\n"
        query = f"{part.number}{self._upload}"
        signature = shape.prepared.signature(f"{shape.canonical}{query}\n{lines}{shape.tail}")
        return SignedRequest(
            method="PUT",
            url=f"{shape.url}{query}&X-Amz-Signature={signature}",
            headers=headers,
            expires_at=shape.prepared.expires_at,
        )

    def _shape(self, kind: tuple[bool, bool]) -> _Shape:
        names = ["content-length", *(["content-md5"] if kind[1] else []), "host"]
        signed = ";".join([*names, *(["x-amz-checksum-sha256"] if kind[0] else [])])
        address = self._signer.address
        prepared = self._signer._prepare(self._terms, signed)  # noqa: SLF001 - two halves of one signer
        query = f"{prepared.query}&partNumber="
        shape = self._shapes[kind] = _Shape(
            prepared=prepared,
            url=f"{address.url(self._path)}?{query}",
            canonical=f"PUT\n{self._path}\n{query}",
            host_line=f"host:{address.host}\n",
            tail=f"\n{signed}\n{_PAYLOAD}",
        )
        return shape


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    prepared: _Prepared
    url: str = field(repr=False)
    canonical: str = field(repr=False)
    host_line: str
    tail: str


def header_value(name: str, value: str) -> str:
    """A header's value as it is signed and as it must be sent: runs of spaces are one space, as SigV4 folds them.

    Raises `ValueError` for anything but printable ASCII: proxies and stores disagree about the rest.
    """
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"header {name} holds something else than printable ASCII")
    return " ".join(value.split())
