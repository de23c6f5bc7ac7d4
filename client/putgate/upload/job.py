"""What goes into the upload engine, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from putgate.upload.source import Source
from putgate_protocol.messages.base import File
from putgate_protocol.names import Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One file to upload.

    `if_absent`: only when nothing has this name; `if_match`: only when its present version is this one.
    `confirm`: also a file that one PUT has committed is confirmed by the API before it counts as uploaded; for
    callers that delete or move the source afterwards.
    """

    name: Name
    source: Source
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    if_absent: bool = False
    if_match: str | None = None
    confirm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """The file is stored. `how`: it was there already (perhaps under another name, and was copied inside the store),
    one PUT committed it, or a complete did. `sent_bytes`: body bytes that the store took in this call. `file.version`
    is only known where the API answered for it: after "exists" and "complete". `change_key`: the source's, when it was
    read.
    """

    job: Job
    file: File
    how: Literal["exists", "put", "complete"]
    sent_bytes: int
    change_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The file is not stored. `error`: a Problem, a ClientError or an OSError, without its traceback."""

    job: Job
    error: Exception

    def __post_init__(self) -> None:
        # Whoever keeps the error would keep its frames, and with them the file's bytes.
        self.error.__traceback__ = self.error.__context__ = self.error.__cause__ = None
