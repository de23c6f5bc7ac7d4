"""`complete_multipart_upload`: verify, publish, answer the file. Idempotent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from putgate_protocol.messages.base import File, Message, UploadIdText


class CompleteRequest(Message):
    upload_id: UploadIdText


class CompleteAnswer(Message):
    """`complete`: published, here is the file. `superseded`: it was published, and the name has since been given
    other content by somebody else.
    """

    status: Literal["complete", "superseded"]
    file: File | None = None


class Copying(Message):
    """Parts are copied inside the store, some with each call: call complete (again) after `retry_after` seconds."""

    status: Literal["copying"] = "copying"
    upload_id: UploadIdText
    retry_after: Annotated[float, Field(ge=0)]


CompleteOutcome = Annotated[CompleteAnswer | Copying, Field(discriminator="status")]
