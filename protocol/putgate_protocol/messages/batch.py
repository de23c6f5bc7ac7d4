"""`batch`: many initiates and completes in one call, each with its own answer or problem."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from putgate_protocol.messages.base import Message

MAX_ITEMS = 1000
"""The most items of one batch."""

MAX_BODY_BYTES = 4 * 1024 * 1024
"""The largest body that any call takes."""


class BatchRequest(Message):
    """Each item is `{"initiate": {…}}` or `{"complete": {…}}`; a bad item spoils only itself, so they are read one by
    one by the server.
    """

    items: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_ITEMS)]


class BatchResult(Message):
    status: int
    body: dict[str, Any]


class BatchAnswer(Message):
    results: list[BatchResult]
