"""`UploadBucket` as a typed value: the one place that knows how the API server writes it down.

What may be said is decided by the CustomResourceDefinition; this only reads it, imports no cluster and asks nobody. A
field that is unset stays None where `putgate-api` has a default of its own, so that its default changes no settings
file; defaults that only the operator needs are the values of the fields here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

from putgate_operator.errors import OperatorError
from putgate_protocol.settings import api as settings
from putgate_protocol.settings.api import Provider
from putgate_protocol.settings.quantities import Duration, Size
from putgate_protocol.settings.rules import Verb


class InvalidUploadBucket(OperatorError):
    """An object that its own CustomResourceDefinition should not have let in; each line names a field."""

    code = "invalid_uploadbucket"


def alias(name: str) -> str:
    """How the API server spells a field's name: `url_ttl` is `urlTTL`."""
    first, *others = name.split("_")
    return first + "".join({"ttl": "TTL", "id": "ID"}.get(word, word.capitalize()) for word in others)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRef:
    """One key of a ConfigMap or a Secret in the UploadBucket's namespace."""

    kind: Literal["ConfigMap", "Secret"] = "ConfigMap"
    name: str
    key: str = "ca.crt"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRef:
    """The Secret with the store's credentials, and which of its keys are which."""

    name: str
    access_key_id_key: str = "accessKeyId"
    secret_access_key_key: str = "secretAccessKey"  # noqa: S105 - a key of a Secret, not what it holds
    session_token_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """`secret_ref` goes with type `Secret`, and only with it."""

    type: Literal["Secret", "WorkloadIdentity"]
    secret_ref: SecretRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    provider: Provider = "Generic"
    bucket: str
    region: str | None = None
    endpoint: str | None = None
    public_endpoint: str | None = None
    addressing_style: Literal["Auto", "Path", "Virtual"] = "Auto"
    ca_bundle_ref: KeyRef | None = None
    credentials: Credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    allowed_origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    type: Literal["S3"]
    s3: S3
    prefix: str = ""
    management: Literal["Create", "Adopt", "Observe"] = "Adopt"
    take_over: str | None = None
    cors: Cors = Cors()
    abort_incomplete_after_days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Sizes in bytes."""

    part_size: Size = 8 * 1024**2
    max_object_size: Size | None = None
    url_ttl: Duration | None = None
    session_ttl: Duration | None = None
    allowed_content_types: tuple[str, ...] = ()

    @property
    def lifetime(self) -> timedelta:
        """How long an upload that begins now can live: its session, and the last URL signed in it."""
        unset = settings.Upload()
        return (self.session_ttl or unset.session_ttl) + (self.url_ttl or unset.url_ttl)


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    url_ttl: Duration | None = None
    disposition: Literal["AttachActiveContent", "Attach", "Inline"] = "AttachActiveContent"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstantUpload:
    """`min_size` in bytes."""

    scope: Literal["Owner", "Bucket", "Disabled"] = "Owner"
    min_size: Size | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Integrity:
    mode: Literal["Enforced", "Unverified"] = "Enforced"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccounts:
    validation: Literal["JWKS", "None"] = "JWKS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    service_accounts: ServiceAccounts = ServiceAccounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """`namespace`: a ServiceAccount's; None for one of the UploadBucket's own."""

    kind: Literal["ServiceAccount", "User", "Group"]
    name: str
    namespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """`max_object_size`: bytes; None leaves it at the UploadBucket's."""

    name: str
    subjects: tuple[Subject, ...]
    verbs: tuple[Verb, ...]
    prefixes: tuple[str, ...]
    max_object_size: Size | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    secret_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduling:
    """Passed on to the pods as it is, but for `topology_spread`."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    affinity: Mapping[str, Any] = field(default_factory=dict)
    topology_spread: Literal["Soft", "None"] = "Soft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What each caller may ask of one replica."""

    open_uploads_per_owner: int | None = None
    requests_per_second: int | None = None
    request_burst: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """`resources`: passed on to the container as they are; empty for the operator's own."""

    replicas: int = 2
    service_account_name: str | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)
    tls: Tls | None = None
    limits: Limits = Limits()
    cors: Cors = Cors()
    scheduling: Scheduling = field(default_factory=Scheduling)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    storage: Storage
    layout: Literal["Path"] = "Path"
    upload: Upload = Upload()
    download: Download = Download()
    instant_upload: InstantUpload = InstantUpload()
    integrity: Integrity = Integrity()
    auth: Auth = Auth()
    access: tuple[Access, ...] = ()
    api: Api = field(default_factory=Api)
    deletion_policy: Literal["Retain", "Delete"] = "Retain"

    # Dataclasses below this one are read the same way. An unknown field is an error: an operator that is older than
    # its CustomResourceDefinition must not grant or delete what a field it does not know would have kept.
    __pydantic_config__ = ConfigDict(alias_generator=alias, extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadBucket:
    """`status`: as it is, for the operator alone writes it."""

    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    deletion_timestamp: datetime | None = None
    spec: Spec
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def deleting(self) -> bool:
        return self.deletion_timestamp is not None

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """From an object as the API server shows it. Raises `InvalidUploadBucket`."""
        metadata = raw.get("metadata") or {}
        where = f"UploadBucket {metadata.get('namespace', '')}/{metadata.get('name', '')}"
        deleted = metadata.get("deletionTimestamp")
        try:
            return cls(
                name=metadata["name"],
                namespace=metadata["namespace"],
                uid=metadata["uid"],
                generation=int(metadata.get("generation") or 0),
                resource_version=metadata.get("resourceVersion") or "",
                annotations=dict(metadata.get("annotations") or {}),
                finalizers=tuple(metadata.get("finalizers") or ()),
                deletion_timestamp=None if deleted is None else datetime.fromisoformat(deleted),
                spec=_SPEC.validate_python(raw.get("spec")),
                status=dict(raw.get("status") or {}),
            )
        except KeyError as error:
            raise InvalidUploadBucket(f"{where}: metadata.{error.args[0]} is missing") from None
        except ValidationError as error:
            raise InvalidUploadBucket("\n".join(f"{where}: {line}" for line in _lines(error))) from None


_SPEC = TypeAdapter(Spec)


def _lines(error: ValidationError) -> list[str]:
    """What is wrong, without the values: a spec may hold what its author did not mean to show."""
    found = []
    for each in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(["spec", *map(str, each["loc"])])
        unknown = each["type"] in ("extra_forbidden", "unexpected_keyword_argument")
        what = "a field that this operator does not know" if unknown else each["msg"].removeprefix("Value error, ")
        found.append(f"{place}: {what}")
    return found
