"""HEAD, and small GETs, PUTs and DELETEs, without botocore's machinery, which costs several times what such a
request itself does.

They are the calls that the API makes most: a look at every name that is declared, and its own records. They go
through the connections, timeouts and trust of the client that they are given, and are answered as that would.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from botocore.awsrequest import AWSPreparedRequest
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError
from botocore.parsers import create_parser

from putgate_storage.errors import Refused, Transient
from putgate_storage.s3.clock import StoreClock
from putgate_storage.s3.credentials import CredentialSource
from putgate_storage.s3.headers import unquoted
from putgate_storage.s3.sigv4 import Signer
from putgate_storage.store import Head, Small

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_META = "x-amz-meta-"

_ERROR = 64 << 10
"""Bytes read of an answer that is not content; a store's errors have some hundred."""

_AT_ONCE = 1 << 20
"""Bytes that are written without letting others have their turn; only the probe puts more."""

_PARSER = create_parser("rest-xml")

Answer = Mapping[str, Any]
"""As the client shows the status and headers of its answers."""


class Objects:
    """Signs in headers, so that no error of the library below can show a signature with the URL."""

    def __init__(
        self, client: S3Client, bucket: str, signer: Signer, credentials: CredentialSource, clock: StoreClock
    ) -> None:
        # There is no public way to it; a test holds the library to this one.
        self._client = client
        self._bucket = bucket
        self._http: Any = client._endpoint.http_session  # type: ignore[attr-defined]  # noqa: SLF001
        self._signer = signer
        self._credentials = credentials
        self._clock = clock

    # Each raises what the client's method of that name raises.

    async def head(self, key: str) -> Answer:
        answer, _ = await self._send("HEAD", key)
        if answer.status_code != 200:
            code = await self._code(key, answer.status_code)
            raise ClientError(cast("Any", _told(answer) | {"Error": {"Code": code}}), "HeadObject")
        return _told(answer)

    async def get(self, key: str, most: int) -> Answer:
        """Its `Body` is the content. Raises `Refused` where that has more than `most` bytes."""
        answer, body = await self._send("GET", key, most=most)
        if answer.status_code != 200:
            raise _error(answer, body, "GetObject")
        if len(body) > most:
            raise Refused(f"GetObject {key!r}: larger than {most} bytes", code="TooLarge")
        return _told(answer) | {"Body": body}

    async def put(self, key: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        answer, said = await self._send("PUT", key, body, headers)
        if answer.status_code != 200 or said.strip():
            raise _error(answer, said, "PutObject")
        return _told(answer)

    async def delete(self, key: str, headers: Mapping[str, str]) -> Answer:
        answer, said = await self._send("DELETE", key, headers=headers)
        if answer.status_code not in (200, 204) or said.strip():
            raise _error(answer, said, "DeleteObject")
        return _told(answer)

    async def _send(
        self, method: str, key: str, body: bytes = b"", headers: Mapping[str, str] | None = None, most: int = _ERROR
    ) -> tuple[Any, bytes]:
        """The answer, and what it holds: all of it, or, of content, a little more than `most` bytes."""
        credentials = await self._credentials.current()
        sent = HTTPHeaders()
        signed = self._signer.authorize(method, key, credentials, self._clock.now(), headers=headers, body=body)
        for name, value in signed.items():
            sent[name] = value
        url = self._signer.address.url(self._signer.address.path(key))
        data = body if len(body) <= _AT_ONCE else BytesIO(body)
        answer = await self._http.send(AWSPreparedRequest(method, url, sent, data, stream_output=True))
        if answer.status_code != 200:
            most = _ERROR
        async with answer.raw as stream:
            said = b""
            while len(said) <= most and (piece := await stream.content.read(most + 1 - len(said))):
                said += piece
        return answer, said

    async def _code(self, key: str, status: int) -> str:
        """The store's own code for its answer. To a HEAD it gives none; where it matters whether the credentials have
        ended or are not allowed to, a GET is asked as well.
        """
        if status in (400, 403):
            try:
                found = await self._client.get_object(Bucket=self._bucket, Key=key, Range="bytes=0-0")
                found["Body"].close()
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == status:
                    return error.response["Error"].get("Code") or str(status)
        return str(status)


def _told(answer: Any) -> dict[str, Any]:
    headers = {name.lower(): value for name, value in answer.raw.headers.items()}
    return {"ResponseMetadata": {"HTTPStatusCode": answer.status_code, "HTTPHeaders": headers}}


def _error(answer: Any, body: bytes, operation: str) -> ClientError:
    """As botocore reads it. A success that holds anything is none: an error that came up after the status was sent,
    or the page of something between us and the store.
    """
    told = _told(answer)
    if answer.status_code < 300:
        told["ResponseMetadata"]["HTTPStatusCode"] = 500
    status = told["ResponseMetadata"]["HTTPStatusCode"]
    parsed = _PARSER.parse({"status_code": status, "headers": HTTPHeaders(), "body": body}, cast("Any", None))
    return ClientError(cast("Any", told | {"Error": parsed.get("Error", {})}), operation)


def parse_head(key: str, answer: Answer, date: datetime) -> Head:
    """`date`: the store's time in this answer. Raises `Transient` for a success that says too little."""
    headers = _headers(answer)
    try:
        return Head(
            size=int(headers["content-length"]),
            etag=unquoted(headers["etag"]),
            modified=_modified(headers),
            date=date,
            content_type=headers.get("content-type"),
            metadata={name[len(_META) :]: value for name, value in headers.items() if name.startswith(_META)},
        )
    except (KeyError, ValueError):
        raise Transient(f"HeadObject {key!r}: success without size, ETag or date", code="HeadUnclear") from None


def parse_etag(key: str, answer: Answer) -> str:
    """Of what was put. Raises `Transient` for a success that does not say it."""
    if not (etag := unquoted(_headers(answer).get("etag", ""))):
        raise Transient(f"PutObject {key!r}: success without an ETag", code="PutUnclear")
    return etag


def parse_small(key: str, answer: Answer, date: datetime) -> Small:
    """`date`: the store's time in this answer. Raises `Transient` for a success that says too little."""
    headers = _headers(answer)
    try:
        return Small(body=answer["Body"], etag=unquoted(headers["etag"]), modified=_modified(headers), date=date)
    except (KeyError, ValueError):
        raise Transient(f"GetObject {key!r}: success without ETag or date", code="GetUnclear") from None


def _headers(answer: Answer) -> Mapping[str, str]:
    return cast("Mapping[str, str]", answer["ResponseMetadata"]["HTTPHeaders"])


def _modified(headers: Mapping[str, str]) -> datetime:
    return parsedate_to_datetime(headers["last-modified"]).astimezone(UTC)
