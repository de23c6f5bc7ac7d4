"""`complete_multipart_upload`: verify, publish, answer the file. Idempotent."""

from __future__ import annotations

from typing import Literal

from putgate_protocol.messages.base import File, Message, UploadIdText


class CompleteRequest(Message):
    upload_id: UploadIdText


class CompleteAnswer(Message):
    """`complete`: published, here is the file. `superseded`: it was published, and the name has since been given
    other content by somebody else.
    """

    status: Literal["complete", "superseded"]
    file: File | None = None
