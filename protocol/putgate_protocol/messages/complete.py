"""`complete_multipart_upload`: verify, publish, answer the file. Idempotent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from putgate_protocol.messages.base import File, HexHash, Message, Size, UploadIdText


class CompleteRequest(Message):
    """`size` and `file_hash`: of a stream, for which initiate did not say them; ignored for other uploads."""

    upload_id: UploadIdText
    size: Size | None = None
    file_hash: HexHash | None = None


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
