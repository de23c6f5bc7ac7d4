"""A streamed file's head, with the hash and size that its metadata could not have. Everybody who asks what an object
is asks with this, so that a streamed file is like any other from then on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from putgate_api.records.streamed import End
from putgate_api.uploads.content import STREAMED
from putgate_storage.store import Head


class Ends(Protocol):
    async def read(self, nonce: str) -> End | None: ...


def streamed_nonce(head: Head) -> str | None:
    """The nonce of the stream that became this object; None for any other object."""
    return head.metadata.get("putgate-upload") if STREAMED in head.metadata else None


async def with_record(ends: Ends, head: Head) -> Head:
    """Costs one more call for streamed files, none for others. Raises `StoreError`."""
    nonce = streamed_nonce(head)
    end = None if nonce is None else await ends.read(nonce)
    if end is None:
        return head
    late = {"putgate-hash": str(end.file_hash), "putgate-size": str(end.size)}
    return replace(head, metadata={**head.metadata, **late})


async def streamed_head(ends: Ends, head: Head | None) -> Head | None:
    return None if head is None else await with_record(ends, head)
