"""`upload_status`: which parts the store holds."""

from __future__ import annotations

from typing import Literal

from putgate_protocol.messages.base import HeldPart, Message, Timestamp, UploadIdText


class StatusRequest(Message):
    upload_id: UploadIdText


class StatusAnswer(Message):
    """`open`: parts are missing or complete was not called; `done`: the file is published."""

    upload_id: UploadIdText
    status: Literal["open", "done"]
    expires_at: Timestamp
    expires_in: int
    size: int
    part_size: int
    uploaded: list[HeldPart]
