"""Every failure of preparing as a reason that programs tell apart and a message that says what to do. Pure.

Reasons are stable: an operator and people's alerts go by them. A message names the operation and the store's code, as
the store's errors do, and never what the store said beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from putgate_api.records.bucket import BucketDisagrees
from putgate_api.records.claim import BucketInUse
from putgate_protocol.report import ConditionType, ReportedCondition
from putgate_protocol.settings.api import Storage
from putgate_storage.errors import Permanent, StoreError, Transient

MAX_MESSAGE = 1024


class Unfit(Exception):
    """The store must not serve; the message says why."""


_NO_CREDENTIALS = frozenset({"SecretMissing", "NoCredentials"})
_REJECTED = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "401"})
_WRONG_REGION = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301", "307"}
)
_DENIED = frozenset({"AccessDenied", "403", "AllAccessDisabled", "AccountProblem", "BucketAlreadyExists"})
_UNTRUSTED = frozenset({"SSLError", "CaBundleMissing", "CaBundleInvalid"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """`user_error`: it waits for somebody to change something; otherwise it may pass by itself."""

    type: ConditionType
    reason: str
    message: str
    user_error: bool
    status: Literal["False", "Unknown"] = "False"

    def condition(self) -> ReportedCondition:
        return ReportedCondition(
            type=self.type,
            status=self.status,
            reason=self.reason,
            message=self.message[:MAX_MESSAGE],
            user_error=self.user_error,
        )


def trouble_of(error: Exception, storage: Storage) -> Trouble:
    """What a failure to prepare means. Any other exception than those of preparing is raised again."""
    match error:
        case Unfit():
            return Trouble(type="IntegrityVerified", reason="IntegrityNotEnforced", message=str(error), user_error=True)
        case BucketDisagrees():
            return _bucket("BucketDisagrees", str(error))
        case BucketInUse():
            return _bucket("BucketInUse", str(error))
        case Transient():
            return _passing(error, storage)
        case StoreError():
            return _standing(error, storage)
        case _:
            raise error


def lifecycle_trouble(error: StoreError, storage: Storage) -> Trouble:
    """Why the store does not drop abandoned uploads by itself. It stops nothing, so it is nobody's error."""
    message = f"the store does not drop abandoned uploads by itself: {_said(error)}"
    match error:
        case Transient():
            reason = "StoreUnreachable"
        case Permanent(code=code) if code in _DENIED:
            reason = "LifecycleAccessDenied"
            message += "; allow the lifecycle calls on the bucket, or set such a rule by hand"
        case _:
            reason = "LifecycleUnsupported"
            message += f"; clean up uploads older than {storage.abort_incomplete_after_days} days in another way"
    return Trouble(type="BucketConfigured", reason=reason, message=message, user_error=False)


def cors_trouble(error: StoreError, storage: Storage) -> Trouble:
    """Why web pages may not use signed URLs. It stops nothing else, and some stores (MinIO) let all pages through by a
    setting of their own, so it is nobody's error.
    """
    message = f"the bucket has no CORS rule for web pages: {_said(error)}"
    match error:
        case Transient():
            reason = "StoreUnreachable"
        case Permanent(code=code) if code in _DENIED:
            reason = "CorsAccessDenied"
            message += "; allow the CORS calls on the bucket, or set such a rule by hand"
        case _:
            reason = "CorsUnsupported"
            origins = ", ".join(storage.cors.allowed_origins)
            message += f"; let the store's own settings, or a proxy, allow GET, HEAD and PUT from {origins}"
    return Trouble(type="BucketConfigured", reason=reason, message=message, user_error=False)


def _passing(error: Transient, storage: Storage) -> Trouble:
    if error.code == "ProbeInconclusive":
        message = f"{error}; it is asked again"
        return Trouble(
            type="IntegrityVerified", reason="ProbeInconclusive", message=message, user_error=False, status="Unknown"
        )
    if error.code == "CredentialsExpired":
        return _credentials("CredentialsRejected", f"{error}; is their source still renewing them?")
    where = storage.s3.endpoint or f"AWS in {storage.s3.region}"
    message = f"the store at {where} does not serve: {error}; look at it, and at storage.s3.endpoint"
    return _bucket("StoreUnreachable", message, user_error=False)


def _standing(error: StoreError, storage: Storage) -> Trouble:
    bucket, code = storage.s3.bucket, error.code
    if code in _NO_CREDENTIALS:
        return _credentials("SecretMissing", f"{error}: create the Secret, or bind the process to a cloud identity")
    if code == "SecretKeyMissing":
        return _credentials("SecretKeyMissing", f"{error}: the Secret lacks this key, or holds nothing under it")
    if code in _REJECTED:
        message = f"the store does not accept the credentials: {_said(error)}; give it valid ones"
        return _credentials("CredentialsRejected", message)
    if code == "RequestTimeTooSkewed":
        return _credentials(
            "CredentialsRejected", "the clocks of this machine and of the store differ too much", user_error=False
        )
    if code in _WRONG_REGION:
        message = f"bucket {bucket} is not in region {storage.s3.region}: {_said(error)}; set storage.s3.region"
        return _bucket("WrongRegion", message)
    if code in _UNTRUSTED:
        return _bucket("TLSUntrusted", f"the store's certificate cannot be checked: {_said(error)}")
    if code == "NoSuchBucket":
        message = f"there is no bucket {bucket}: create it, or set storage.management to Create"
        return _bucket("BucketNotFound", message)
    if code in _DENIED:
        return _bucket("AccessDenied", f"the credentials do not allow what Putgate needs on {bucket}: {_said(error)}")
    return _bucket("StoreRefused", f"the store refuses: {_said(error)}", user_error=True)


def _bucket(reason: str, message: str, *, user_error: bool = True) -> Trouble:
    return Trouble(type="BucketReady", reason=reason, message=message, user_error=user_error)


def _credentials(reason: str, message: str, *, user_error: bool = True) -> Trouble:
    return Trouble(type="CredentialsValid", reason=reason, message=message, user_error=user_error)


def _said(error: StoreError) -> str:
    return str(error) if error.code in str(error) else f"{error} ({error.code})"
