"""What the messages of several calls share."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from putgate_protocol.names import Name

MAX_PARTS_LISTED = 10_000
"""The most part hashes one message carries; also S3's most parts of an upload."""

MAX_SIZE = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""


@lru_cache(maxsize=256)
def _rfc3339(value: datetime) -> str:
    # A page of signed parts writes one moment a thousand times.
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Message(BaseModel):
    """Strict where read: no coercion, unknown fields ignored, so that newer peers can say more."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    def to_wire(self) -> dict[str, Any]:
        """JSON-ready values; fields that say nothing are left out."""
        return self.model_dump(mode="json", exclude_none=True)


Timestamp = Annotated[datetime, Field(strict=False), PlainSerializer(_rfc3339, when_used="json")]
HexHash = Annotated[str, Field(min_length=64, max_length=64, json_schema_extra={"pattern": "^[0-9a-f]{64}$"})]
Md5Text = Annotated[str, Field(min_length=24, max_length=24)]
UploadIdText = Annotated[str, Field(min_length=1, max_length=8192)]
NameText = Annotated[str, Field(max_length=64 * 1024)]
"""Longer than any name, so that the rule on names answers, with its own code."""
Size = Annotated[int, Field(ge=-MAX_SIZE, le=MAX_SIZE)]
PartNumber = Annotated[int, Field(ge=-MAX_SIZE, le=MAX_SIZE)]
VersionText = Annotated[str, Field(min_length=1, max_length=256)]


class NamedMessage(Message):
    """A message about one name, given as text or as base64 of bytes that are not UTF-8."""

    name: NameText | None = None
    name_b64: NameText | None = None

    def parsed_name(self) -> Name:
        """The validated name; raises `NameProblem`."""
        return Name.from_wire(self.name, self.name_b64)


class File(NamedMessage):
    """A stored file. `version`: an opaque tag of its present content. `url`: present when the caller may read it."""

    size: Size
    file_hash: HexHash | None = None
    version: VersionText | None = None
    modified: Timestamp | None = None
    content_type: str | None = None
    url: str | None = None


class SignedPart(Message):
    """A request to send exactly as it stands: method, URL, headers, and the file's bytes of this slice."""

    part_number: int
    method: str
    url: str
    headers: dict[str, str]
    offset: int
    length: int
    expires_at: Timestamp
    expires_in: int


class HeldPart(Message):
    """A part that the store already holds."""

    part_number: int
    length: int
