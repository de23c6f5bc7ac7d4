"""The settings of `putgate-api`: one file, written by people or by the operator."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from putgate_protocol.names import parse_prefix
from putgate_protocol.parts import MIB, MIN_PART_SIZE
from putgate_protocol.settings.load import SettingsModel
from putgate_protocol.settings.quantities import Duration, Size

Provider = Literal["AWS", "SeaweedFS", "Ceph", "MinIO", "Swift", "R2", "OSS", "COS", "GCS", "B2", "Generic"]
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9a-fA-F:.]+")
Port = Annotated[int, Field(ge=0, le=65535)]


class Credentials(SettingsModel):
    """Where the store's credentials come from.

    `Environment`: the SDK's own chain (AWS_ACCESS_KEY_ID, profile, workload identity). `Files`: one file per
    value, read again when it changes, as Kubernetes mounts a Secret.
    """

    type: Literal["Environment", "Files"] = "Environment"
    access_key_id_file: Path | None = None
    secret_access_key_file: Path | None = None
    session_token_file: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.type == "Files" and not (self.access_key_id_file and self.secret_access_key_file):
            raise ValueError("type Files needs access_key_id_file and secret_access_key_file")
        return self


class S3(SettingsModel):
    """An S3 bucket. `endpoint` is dialled by the API, `public_endpoint` is only signed into URLs."""

    provider: Provider = "Generic"
    bucket: Annotated[str, Field(min_length=3, max_length=63, pattern=r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$")]
    region: Annotated[str, Field(min_length=1, max_length=64)] = "us-east-1"
    endpoint: Annotated[str, Field(pattern=r"^https?://[^/?#@]+/?$")] | None = None
    public_endpoint: Annotated[str, Field(pattern=r"^https?://[^/?#@]+/?$")] | None = None
    addressing_style: Literal["Auto", "Path", "Virtual"] = "Auto"
    ca_bundle: Path | None = None
    credentials: Credentials = Credentials()

    @field_validator("endpoint", "public_endpoint")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None:
            split = urlsplit(value)
            if not _HOST.fullmatch(split.hostname or "") or split.port == 0:  # a port beyond 65535 is an error as well
                raise ValueError("is not http[s]://host[:port] with a host of letters, digits, '-' and '.'")
        return value

    @model_validator(mode="after")
    def _endpoint(self) -> Self:
        if self.endpoint is None and self.provider != "AWS":
            raise ValueError("endpoint is needed for every provider but AWS")
        return self


class Claimant(SettingsModel):
    """In whose name the bucket is claimed: an object that is created again with this place goes on with its claim."""

    namespace_uid: Annotated[str, Field(min_length=1, max_length=64)]
    namespace: Annotated[str, Field(min_length=1, max_length=63)]
    name: Annotated[str, Field(min_length=1, max_length=63)]


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9._-]*[a-z0-9])?)(:[1-9][0-9]{0,4})?")
_DEFAULT_PORT = {"http": ":80", "https": ":443"}


class Cors(SettingsModel):
    """Which web pages may call: by their exact origins (`https://app.example.com`), or `*` for all. None by default.

    What may be done is decided by tokens and signatures alone; this only tells browsers whom they may let ask.
    """

    allowed_origins: list[Annotated[str, Field(min_length=1, max_length=253)]] = Field(default=[], max_length=64)

    @field_validator("allowed_origins")
    @classmethod
    def _exact(cls, value: list[str]) -> list[str]:
        for origin in value:
            scheme = origin.partition("://")[0]
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin: scheme://host[:port] in lower case, without a path, or *")
            if origin.endswith(_DEFAULT_PORT.get(scheme, " ")):
                raise ValueError(f"{origin!r} never matches: browsers leave out the default port")
        if len(set(value)) != len(value) or ("*" in value and len(value) > 1):
            raise ValueError("an origin stands twice; * stands alone")
        return value


class Storage(SettingsModel):
    """The bucket and what Putgate may do to it.

    `management`: `Create` makes a missing bucket, `Adopt` sets only clean-up rules of its own, `Observe` writes no
    settings of the bucket. `claimant`: without one no claim is taken, and whoever shares bucket and prefix is not
    noticed. `take_over`: the id of exactly the claim to replace. `cors`: which web pages may use signed URLs, by
    a rule of the bucket; other rules are left alone.
    """

    type: Literal["S3"] = "S3"
    s3: S3
    prefix: str = ""
    management: Literal["Create", "Adopt", "Observe"] = "Adopt"
    claimant: Claimant | None = None
    take_over: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    cors: Cors = Cors()
    abort_incomplete_after_days: Annotated[int, Field(ge=1, le=365)] = 7

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        return parse_prefix(value)


class Upload(SettingsModel):
    """`part_size` is fixed for the bucket's life at its first start. A URL that lives longer than needed is a
    longer replay; one that lives too short costs slow clients another signature.
    """

    part_size: Size = 8 * MIB
    max_object_size: Size = 5 * 1024**4
    url_ttl: Duration = timedelta(minutes=15)
    session_ttl: Duration = timedelta(hours=24)
    allowed_content_types: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(default=[], max_length=64)

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if not MIN_PART_SIZE <= self.part_size <= 1024 * MIB:
            raise ValueError("part_size lies between 5Mi (S3's floor) and 1Gi")
        if not 1 <= self.max_object_size <= 5 * 1024**4:
            raise ValueError("max_object_size lies between 1 byte and 5Ti (S3's ceiling)")
        if not timedelta(seconds=10) <= self.url_ttl <= timedelta(minutes=15):
            raise ValueError("url_ttl lies between 10s and 15m")
        if not timedelta(minutes=15) <= self.session_ttl <= timedelta(days=7):
            raise ValueError("session_ttl lies between 15m and 168h")
        return self


class Download(SettingsModel):
    url_ttl: Duration = timedelta(minutes=5)
    disposition: Literal["AttachActiveContent", "Attach", "Inline"] = "AttachActiveContent"

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if not timedelta(seconds=10) <= self.url_ttl <= timedelta(hours=12):
            raise ValueError("url_ttl lies between 10s and 12h")
        return self


class InstantUpload(SettingsModel):
    """Content that is stored already is copied inside the store instead of being sent. `scope`: whose content may be
    found: the caller's own (`Owner`), or anybody's that the caller may download (`Bucket`). `min_size`: smaller files
    are found under their own name only. Too small, and every small file costs a look and a record; too big, and more
    is sent than need be.
    """

    scope: Literal["Owner", "Bucket", "Disabled"] = "Owner"
    min_size: Size = 256 * 1024

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if not 1 <= self.min_size <= 1024 * MIB:
            raise ValueError("min_size lies between 1 byte and 1Gi")
        return self


class Integrity(SettingsModel):
    """`mode`: what follows where the store enforces no digest of what is uploaded. `Enforced`: it is refused.
    `Unverified`: it is served all the same, and what is stored may be other bytes than were declared.
    """

    mode: Literal["Enforced", "Unverified"] = "Enforced"


class ServiceAccounts(SettingsModel):
    """Kubernetes ServiceAccount tokens of one audience, checked offline against the cluster's published keys.

    `token_file`, `ca_file`: this process's own token and the CA, used for nothing but fetching those keys.
    `max_lifetime`: tokens that were made to live longer are refused, since none can be revoked before its end.
    """

    audience: Annotated[str, Field(min_length=1, max_length=253)]
    api_server: Annotated[str, Field(pattern=r"^https://[^/?#@]+$")] = "https://kubernetes.default.svc"
    token_file: Path
    ca_file: Path
    max_lifetime: Duration = timedelta(hours=24)


class Auth(SettingsModel):
    """`token_file`: who may do what; `rules_file`: what ServiceAccounts may do. Both are read again when they change.
    Without any way to authenticate the API refuses to start, unless it is told to need none on a loopback address.
    """

    token_file: Path | None = None
    service_accounts: ServiceAccounts | None = None
    rules_file: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.service_accounts is None) != (self.rules_file is None):
            raise ValueError("service_accounts and rules_file go together: who a caller is, and what they may do")
        return self


KeyId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,32}$")]


class UploadKeys(SettingsModel):
    """`file`: lines `<key id> <base64 of at least 32 bytes>`; the first signs, all are accepted.

    Or `folder`: one file per key, named by its id, with the base64 alone; `signing` signs, all `accepted` are accepted.
    """

    file: Path | None = None
    folder: Path | None = None
    signing: KeyId | None = None
    accepted: list[KeyId] = Field(default=[], max_length=8)

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.file is None) == (self.folder is None):
            raise ValueError("either file or folder says where the keys are")
        if (self.folder is None) != (self.signing is None):
            raise ValueError("folder and signing go together")
        if self.signing is not None and self.signing not in self.accepted:
            raise ValueError("the signing key is one of the accepted ones")
        if self.file is not None and self.accepted:
            raise ValueError("accepted goes with folder: of a file all keys are accepted")
        return self


class Janitor(SettingsModel):
    """Cleaning up after uploads that nobody finished, in the background. `period`: the time between two rounds, with
    jitter. Too long, and what is left costs storage; too short, and it only lists. `calls_per_second`: the most that
    it asks of the store. Too low, and a round in a bucket of many sessions takes hours; too high, and uploads wait.
    """

    enabled: bool = True
    period: Duration = timedelta(hours=1)
    calls_per_second: Annotated[float, Field(ge=1, le=100)] = 5

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if not timedelta(seconds=1) <= self.period <= timedelta(days=1):
            raise ValueError("period lies between 1s and 24h")
        return self


class Limits(SettingsModel):
    """What one process takes on at once, so that no caller and no crowd of callers takes it down.

    `open_uploads_per_owner`: multipart uploads that one owner may have under way. Too few, and a folder of large files
    waits for its own uploads; too many, and one caller fills the store with parts that nobody completes.

    `requests_per_second`, `request_burst`: of one caller, at each process; a batch is one. Too few, and interactive
    callers wait; too many, and one caller's loop takes the time of all others. The burst is what may come at once.

    `concurrent_calls`: at work at once; `concurrent_bytes`: of their bodies, but for small ones, and half of it for one
    caller at most. What comes on top is answered 503 `not_ready`. A call holds up to about twenty times its body in
    memory: too much, and the process is killed for its memory; too little, and calls are put off that there was room
    for. Never less than the largest batch (4 MiB).

    `body_timeout`: how long a body may take to arrive. Too short, and slow lines cannot send a large batch; too long,
    and callers that send nothing hold room that others need.

    `store_calls`: with the store at once. Too few leave a far store idle; more only queue in a near one.

    `store_timeout`: of one store call, from the first byte sent to the last received. Too short, and completing a large
    upload is cut off, again and again; too long, and a store that hangs holds calls.
    """

    open_uploads_per_owner: Annotated[int, Field(ge=1, le=10_000)] = 5_000
    requests_per_second: Annotated[float, Field(ge=1, le=100_000)] = 200
    request_burst: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    concurrent_calls: Annotated[int, Field(ge=1, le=10_000)] = 256
    concurrent_bytes: Annotated[Size, Field(ge=4 * MIB)] = 8 * MIB
    body_timeout: Duration = timedelta(seconds=60)
    store_calls: Annotated[int, Field(ge=1, le=64)] = 48
    store_timeout: Duration = timedelta(minutes=2)

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        for name, value in (("body_timeout", self.body_timeout), ("store_timeout", self.store_timeout)):
            if not timedelta(seconds=1) <= value <= timedelta(minutes=15):
                raise ValueError(f"{name} lies between 1s and 15m")
        return self


class Tls(SettingsModel):
    """PEM files, read again when they change. While they are missing the API's port stays closed."""

    cert_file: Path
    key_file: Path


class Listen(SettingsModel):
    """`public_url`: where clients reach the API; a base URL may have a path. Default: the bound address.

    `lame_duck`: how long calls are still taken after SIGTERM, so that load balancers notice first. `drain`: how long
    calls under way may take after it.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    admin_host: str = "127.0.0.1"
    admin_port: Port = 8081
    public_url: Annotated[str, Field(pattern=r"^https?://[^?#@]+$")] | None = None
    drain: Duration = timedelta(seconds=20)
    lame_duck: Duration = timedelta(0)
    tls: Tls | None = None


class Identity(SettingsModel):
    """Which UploadBucket this process serves, and the hash of the settings it was given; for its report."""

    uploadbucket_uid: Annotated[str, Field(min_length=1, max_length=64)]
    settings_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{10}$")]


class ApiSettings(SettingsModel):
    """Everything that `putgate-api` reads from its file and environment (`PUTGATE_API_…`)."""

    storage: Storage
    layout: Literal["Path"] = "Path"
    upload: Upload = Upload()
    download: Download = Download()
    instant_upload: InstantUpload = InstantUpload()
    integrity: Integrity = Integrity()
    auth: Auth = Auth()
    upload_keys: UploadKeys
    janitor: Janitor = Janitor()
    cors: Cors = Cors()
    limits: Limits = Limits()
    listen: Listen = Listen()
    identity: Identity | None = None


ENV_PREFIX = "PUTGATE_API_"
