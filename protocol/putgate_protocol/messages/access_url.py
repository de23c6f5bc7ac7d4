"""`access_url`: a presigned GET for a name, to be handed to whoever shall read the file without a token."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from putgate_protocol.messages.base import MAX_SIZE, Message, NamedMessage, Timestamp

MAX_FILENAME = 1024
"""Characters; as long as a name may be in bytes. What is shown to a browser is cut shorter."""


class AccessUrlRequest(NamedMessage):
    """`expires_in`: seconds; the server may give less, never more. `filename`: what a browser saves the file as.
    `inline`: false asks for a download; true asks for what the server would do anyway.
    """

    expires_in: Annotated[int, Field(ge=1, le=MAX_SIZE)] | None = None
    filename: Annotated[str, Field(min_length=1, max_length=MAX_FILENAME)] | None = None
    inline: bool | None = None


class AccessUrlAnswer(Message):
    """`url` is a secret until it expires: whoever holds it may read the file."""

    url: Annotated[str, Field(repr=False)]
    expires_at: Timestamp
    expires_in: int
