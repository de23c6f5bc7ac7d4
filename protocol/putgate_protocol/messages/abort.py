"""`abort_multipart_upload`: give up an upload. Idempotent."""

from __future__ import annotations

from typing import Literal

from putgate_protocol.messages.base import Message, UploadIdText


class AbortRequest(Message):
    upload_id: UploadIdText


class AbortAnswer(Message):
    status: Literal["aborted"] = "aborted"
