"""botocore's and aiohttp's errors become ours.

A message names the operation, the key and the store's code, and never what the store or the library says beside
it: those texts may hold URLs, access keys or what was signed.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from typing import Any

import aiohttp
import botocore.exceptions
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    ResponseStreamingError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from putgate_storage.errors import ConditionFailed, Permanent, Refused, StoreError, Transient, Unsupported

LIBRARY_ERRORS = (ClientError, BotoCoreError, ResponseParserError, aiohttp.ClientError, asyncio.TimeoutError, OSError)
"""Everything that a call through aiobotocore raises when the store or the way to it fails."""

_NO_BODY = frozenset({"NotFound", "404", "NoSuchKey"})
_ABSENT: Mapping[str, frozenset[str]] = {
    "HeadObject": _NO_BODY,
    "HeadBucket": _NO_BODY | {"NoSuchBucket"},
    "DeleteBucket": frozenset({"NoSuchBucket"}),
    "GetObject": frozenset({"NoSuchKey"}),
    "DeleteObject": frozenset({"NoSuchKey"}),
    "PutObject": frozenset({"NoSuchKey"}),
    # Ceph 16 says NoSuchKey of an upload that was completed.
    "ListParts": frozenset({"NoSuchUpload", "NoSuchKey"}),
    "UploadPartCopy": frozenset({"NoSuchUpload", "NoSuchKey"}),
    "AbortMultipartUpload": frozenset({"NoSuchUpload"}),
    "CompleteMultipartUpload": frozenset({"NoSuchUpload", "NoSuchKey"}),
    "GetBucketCors": frozenset({"NoSuchCORSConfiguration"}),
    "GetBucketLifecycleConfiguration": frozenset({"NoSuchLifecycleConfiguration"}),
}
"""What says that a thing is not there, by operation. Any other 404 may be a proxy's on the way, and says nothing."""

_REFUSED = frozenset(
    {
        "InvalidPart",
        "InvalidPartOrder",
        "EntityTooSmall",
        "EntityTooLarge",
        "MalformedXML",
        "InvalidArgument",
        "InvalidRequest",
        "BadDigest",
    }
)
_TRANSIENT = frozenset(
    {
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "RequestTimeout",
        "RequestTimeoutException",
        "InternalError",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "OperationAborted",
        "ConditionalRequestConflict",
    }
)
_PERMANENT = frozenset(
    {
        "NoSuchBucket",
        "InvalidBucketName",
        "AccessDenied",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "AuthorizationHeaderMalformed",
        "PermanentRedirect",
        "AllAccessDisabled",
        "AccountProblem",
    }
)
_UNSUPPORTED = frozenset({"NotImplemented", "MethodNotAllowed", "UnsupportedOperation"})
_TIMEOUTS = (botocore.exceptions.ConnectTimeoutError, botocore.exceptions.ReadTimeoutError)
_UNREACHABLE = (
    HTTPClientError,
    botocore.exceptions.ConnectionError,
    ResponseStreamingError,
    IncompleteReadError,
    CredentialRetrievalError,
    MetadataRetrievalError,
)

_REGION = re.compile(r"[A-Za-z0-9-]{1,64}")
"""What a store says of its region is repeated only where it looks like one."""


class Absent(Refused):
    """There is no such thing. Drivers' methods turn it into None where None is an answer."""


def translate(error: Exception, operation: str, key: str, *, conditional: bool) -> StoreError:
    """The error to raise from `error`. `conditional`: the request carried a precondition."""
    if isinstance(error, ClientError):
        return _answered(error.response, operation, key, conditional=conditional)
    name = type(error).__name__
    why = _why(error)
    what = f"{_subject(operation, key)}: {why or name}"
    if isinstance(error, SSLError) and isinstance(error.kwargs.get("error"), aiohttp.ClientConnectorCertificateError):
        return Permanent(f"{what}: no TLS connection; is the certificate trusted (ca_bundle)?", code=name)
    if isinstance(error, BotoCoreError) and not isinstance(error, _UNREACHABLE):
        return Permanent(what, code=name)
    return Transient(what, code=name)


def _subject(operation: str, key: str) -> str:
    """Calls about the bucket itself have no key."""
    return f"{operation} {key!r}" if key else operation


def _why(error: Exception) -> str | None:
    """Why there was no answer, in words of our own: what the system says beside its number may hold anything."""
    kwargs = getattr(error, "kwargs", {})
    inner = kwargs.get("error") if isinstance(kwargs, dict) else None
    if isinstance(error, (*_TIMEOUTS, asyncio.TimeoutError)):
        return "no answer in time"
    if isinstance(error, botocore.exceptions.ConnectionClosedError):
        return "the connection was closed before an answer"
    if isinstance(inner, aiohttp.ClientConnectorDNSError):
        return "the endpoint's name cannot be resolved"
    if isinstance(inner, aiohttp.ClientSSLError):
        return "no TLS connection; is this an https endpoint?"
    if isinstance(inner, aiohttp.ClientConnectorError) and inner.os_error.errno:
        return os.strerror(inner.os_error.errno).lower()
    return None


def _answered(response: Mapping[str, Any], operation: str, key: str, *, conditional: bool) -> StoreError:
    metadata = response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    code = str(response.get("Error", {}).get("Code") or status)
    what = f"{_subject(operation, key)}: {code} (HTTP {status})"
    region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region") or response.get("Error", {}).get("Region")
    if region and _REGION.fullmatch(region):
        what += f"; the bucket is in region {region}"
    if code in _TRANSIENT or status in (408, 429):
        return Transient(what, code=code, delay=_delay(metadata.get("HTTPHeaders", {})))
    if code in _UNSUPPORTED or status == 501:
        return Unsupported(what, code=code)
    # The codes come before the status: an error in the body of a 200 is given the status 500 by the library.
    if status == 412 or code == "PreconditionFailed" or (status == 409 and conditional):
        return ConditionFailed(what, code=code)
    if code in _ABSENT.get(operation, ()):
        return Absent(what, code=code)
    if code in _PERMANENT or status in (301, 302, 308, 401, 403):
        return Permanent(what, code=code)
    if code in _REFUSED:
        return Refused(what, code=code)
    # AWS answers 307 for a bucket that was just made.
    if status >= 500 or status in (307, 404):
        return Transient(what, code=code, delay=_delay(metadata.get("HTTPHeaders", {})))
    return Refused(what, code=code)


def _delay(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds; its other form, a date, is not used by stores."""
    value = headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else None


def endless(operation: str) -> Permanent:
    """A listing that says it goes on, and not from where. Taken for its end, it would make what follows vanish."""
    text = f"{operation}: the store cut its listing short and does not say where it goes on"
    return Permanent(text, code="ListingBroken")
