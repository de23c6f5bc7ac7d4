"""Streaming: a file whose size and hashes are not known when its upload begins. Its parts are declared as they come.

The calls are those of any upload; what tells a stream's requests from the others is which fields they have.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from putgate_protocol.messages.base import (
    HexHash,
    Md5Text,
    Message,
    NamedMessage,
    PartNumber,
    Size,
    UploadIdText,
    VersionText,
)
from putgate_protocol.messages.initiate import MetadataKey, MetadataValue

MAX_DECLARED = 1000
"""The most parts that one call declares; as many as one call signs."""


class StreamRequest(NamedMessage):
    """`initiate_multipart_upload` without `size`, `file_hash` and `parts`."""

    part_size: Size
    content_type: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=64)] | None = None
    if_absent: bool = False
    if_match: VersionText | None = None


class PartDeclaration(Message):
    """`length`: in bytes; absent for a part of the stream's part size, so only the last has one."""

    part_number: PartNumber
    sha256: HexHash
    length: Size | None = None
    md5: Md5Text | None = None


class DeclareRequest(Message):
    """`auth_sign` of a stream: declare these parts and sign them. The same declaration again signs them again."""

    upload_id: UploadIdText
    parts: Annotated[list[PartDeclaration], Field(min_length=1, max_length=MAX_DECLARED)]
