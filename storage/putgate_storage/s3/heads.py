"""HEAD of an object without botocore's machinery, which costs more than the request itself does.

It is the call that the API makes most: a look at every name that is declared, and one after every commit. It goes
through the connections, timeouts and trust of the client it is given, and is answered as that would.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

from botocore.awsrequest import AWSPreparedRequest
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError

from putgate_storage.errors import Transient
from putgate_storage.s3.clock import StoreClock
from putgate_storage.s3.credentials import CredentialSource
from putgate_storage.s3.headers import unquoted
from putgate_storage.s3.sigv4 import Signer
from putgate_storage.store import Head

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_META = "x-amz-meta-"


class Heads:
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

    async def __call__(self, key: str) -> Mapping[str, Any]:
        """Status and headers, as the client shows those of its answers; raises what its `head_object` raises."""
        credentials = await self._credentials.current()
        headers = HTTPHeaders()
        for name, value in self._signer.authorize("HEAD", key, credentials, self._clock.now()).items():
            headers[name] = value
        url = self._signer.address.url(self._signer.address.path(key))
        answer = await self._http.send(AWSPreparedRequest("HEAD", url, headers, b"", stream_output=False))
        told: Any = {"ResponseMetadata": {"HTTPStatusCode": answer.status_code, "HTTPHeaders": dict(answer.headers)}}
        if answer.status_code != 200:
            told["Error"] = {"Code": await self._code(key, answer.status_code)}
            raise ClientError(told, "HeadObject")
        return cast("Mapping[str, Any]", told)

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


def parse_head(key: str, answer: Mapping[str, Any], date: datetime) -> Head:
    """`date`: the store's time in this answer. Raises `Transient` for a success that says too little."""
    headers: Mapping[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
    try:
        return Head(
            size=int(headers["content-length"]),
            etag=unquoted(headers["etag"]),
            modified=parsedate_to_datetime(headers["last-modified"]).astimezone(UTC),
            date=date,
            content_type=headers.get("content-type"),
            metadata={name[len(_META) :]: value for name, value in headers.items() if name.startswith(_META)},
        )
    except (KeyError, ValueError):
        raise Transient(f"HeadObject {key!r}: success without size, ETag or date", code="HeadUnclear") from None
