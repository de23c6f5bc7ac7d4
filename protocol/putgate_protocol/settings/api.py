"""The settings of `putgate-api`: one file, written by people or by the operator."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from putgate_protocol.names import parse_prefix
from putgate_protocol.parts import MIB, MIN_PART_SIZE
from putgate_protocol.settings.load import SettingsModel
from putgate_protocol.settings.quantities import Duration, Size

Provider = Literal["AWS", "SeaweedFS", "Ceph", "MinIO", "Swift", "R2", "OSS", "COS", "GCS", "B2", "Generic"]
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

    @model_validator(mode="after")
    def _endpoint(self) -> Self:
        if self.endpoint is None and self.provider != "AWS":
            raise ValueError("endpoint is needed for every provider but AWS")
        return self


class Storage(SettingsModel):
    """The bucket and what Putgate may do to it."""

    type: Literal["S3"] = "S3"
    s3: S3
    prefix: str = ""
    management: Literal["Create", "Adopt"] = "Adopt"
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
    min_size: Size = 256 * 1024


class Auth(SettingsModel):
    """`token_file`: who may do what; read again when it changes. Without any way to authenticate the API refuses to
    start, unless it is told to need none on a loopback address.
    """

    token_file: Path | None = None


class UploadKeys(SettingsModel):
    """`file`: lines `<key id> <base64 of at least 32 bytes>`; the first signs, all are accepted."""

    file: Path


class Listen(SettingsModel):
    """`public_url`: where clients reach the API; a base URL may have a path. Default: the bound address."""

    host: str = "127.0.0.1"
    port: Port = 8080
    admin_host: str = "127.0.0.1"
    admin_port: Port = 8081
    public_url: Annotated[str, Field(pattern=r"^https?://[^?#@]+$")] | None = None
    drain: Duration = timedelta(seconds=20)


class ApiSettings(SettingsModel):
    """Everything that `putgate-api` reads from its file and environment (`PUTGATE_API_…`)."""

    storage: Storage
    layout: Literal["Path"] = "Path"
    upload: Upload = Upload()
    download: Download = Download()
    instant_upload: InstantUpload = InstantUpload()
    auth: Auth = Auth()
    upload_keys: UploadKeys
    listen: Listen = Listen()


ENV_PREFIX = "PUTGATE_API_"
