"""`auth_sign`: sign, or sign again, parts of an upload. The digests come from the server's own record."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from putgate_protocol.messages.base import Message, PartNumber, SignedPart, UploadIdText


class SignRequest(Message):
    upload_id: UploadIdText
    part_numbers: Annotated[list[PartNumber], Field(min_length=1, max_length=10_000)]


class SignAnswer(Message):
    """`upload_id` may be newer than the one that was sent; keep the newest."""

    upload_id: UploadIdText
    parts: list[SignedPart]
