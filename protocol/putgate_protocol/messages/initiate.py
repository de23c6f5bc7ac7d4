"""`initiate_multipart_upload`: declare a file; learn that it is stored, or how to send it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from putgate_protocol.messages.base import (
    MAX_PARTS_LISTED,
    File,
    HeldPart,
    HexHash,
    Md5Text,
    Message,
    NamedMessage,
    SignedPart,
    Size,
    Timestamp,
    UploadIdText,
    VersionText,
)
from putgate_protocol.messages.complete import Copying

MetadataKey = Annotated[str, Field(min_length=1, max_length=128)]
MetadataValue = Annotated[str, Field(max_length=2048)]


class InitiateRequest(NamedMessage):
    """`parts`: every part hash in order. `recheck`: how often this client has already tried and failed to commit
    this file by PUT; the server looks closer the higher it is.
    """

    size: Size
    file_hash: HexHash
    part_size: Size
    parts: Annotated[list[HexHash], Field(max_length=MAX_PARTS_LISTED)]
    md5: Annotated[list[Md5Text], Field(max_length=MAX_PARTS_LISTED)] | None = None
    content_type: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=64)] | None = None
    if_absent: bool = False
    if_match: VersionText | None = None
    recheck: Annotated[int, Field(ge=0, le=1000)] = 0


class Exists(Message):
    """Stored under this name, perhaps copied there just now: nothing is sent."""

    status: Literal["exists"] = "exists"
    file: File


class Upload(Message):
    """Send `parts`. `commit` says what publishes the file: the PUT itself, or a call of complete."""

    status: Literal["upload"] = "upload"
    upload_id: UploadIdText
    expires_at: Timestamp
    expires_in: int
    commit: Literal["complete", "put"]
    parts: list[SignedPart]
    uploaded: list[HeldPart]
    next_part_number: int | None = None


InitiateAnswer = Annotated[Exists | Upload | Copying, Field(discriminator="status")]
