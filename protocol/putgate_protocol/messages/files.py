"""`/files`: what is stored."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from putgate_protocol.messages.base import File, Message, NameText


class ListAnswer(Message):
    """One page. `cursor`: where the next page begins, or null at the end; a page may be short or empty and still
    have one. `prefixes`: what a delimiter folded; `prefixes_b64` those that are not UTF-8.
    """

    files: Annotated[list[File], Field(max_length=1000)]
    prefixes: list[NameText] = Field(default_factory=list)
    prefixes_b64: list[NameText] = Field(default_factory=list)
    cursor: str | None = None

    def to_wire(self) -> dict[str, object]:
        """`cursor` is always there: null says the end."""
        return {**super().to_wire(), "cursor": self.cursor}


MAX_LIMIT = 1000
"""The most files of one page; a store's LIST page."""

HEADER_VERSION = "X-Putgate-Version"
HEADER_FILE_HASH = "X-Putgate-File-Hash"
HEADER_PART_SIZE = "X-Putgate-Part-Size"
HEADER_SIZE = "X-Putgate-Size"
"""HEAD answers a file's metadata in these headers; the size is no Content-Length, as the answer has no body."""
