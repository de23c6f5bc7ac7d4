"""The settings of `putgate-daemon`: one file."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from putgate_protocol.names import parse_prefix
from putgate_protocol.settings.load import SettingsModel
from putgate_protocol.settings.quantities import Duration


class Folder(SettingsModel):
    """One watched tree. `prefix`: where its files go, empty or ending in `/`. `rules`: gitignore-style patterns of
    what is left out (`!` takes back in). `settle`: how long a small file must be quiet; large ones longer.
    """

    path: Path
    prefix: str = ""
    rules: list[Annotated[str, Field(max_length=1024)]] = Field(default=[], max_length=1000)
    settle: Duration = timedelta(seconds=2)
    rescan: Duration = timedelta(hours=1)

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        return parse_prefix(value)

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise ValueError("a folder's path is absolute")
        return value

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if not timedelta(0) <= self.settle <= timedelta(hours=1):
            raise ValueError("settle lies between 0s and 1h")
        if not timedelta(seconds=1) <= self.rescan <= timedelta(hours=24):
            raise ValueError("rescan lies between 1s and 24h")
        return self


class Server(SettingsModel):
    """The signing API. `token_file` holds the bearer token; read again when it changes. `ca_file`: certificates to
    trust beside the system's, of the API and of the store.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^?#@]+$")]
    token_file: Path | None = None
    ca_file: Path | None = None


class Transfers(SettingsModel):
    """`concurrency`: PUTs at once. More hides latency; too many only queue in the store."""

    concurrency: Annotated[int, Field(ge=1, le=256)] = 16


class Health(SettingsModel):
    """Where `/healthz` and `/metrics` are served; port 0 takes a free one, absent: not served."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] | None = None


class DaemonSettings(SettingsModel):
    """Everything that `putgate-daemon` reads from its file and environment (`PUTGATE_DAEMON_…`)."""

    server: Server
    folders: Annotated[list[Folder], Field(min_length=1, max_length=100)]
    journal: Path
    transfers: Transfers = Transfers()
    health: Health = Health()

    @model_validator(mode="after")
    def _apart(self) -> Self:
        for index, folder in enumerate(self.folders):
            for other in self.folders[index + 1 :]:
                if folder.path == other.path:
                    raise ValueError(f"folder {folder.path} is named twice")
        return self


ENV_PREFIX = "PUTGATE_DAEMON_"
