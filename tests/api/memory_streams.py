"""Streams on the in-memory store, for the tests of their parts and of their ends."""

from __future__ import annotations

import os
from typing import Any

from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.complete import complete
from putgate_api.uploads.stream import begin_stream, declare_parts
from putgate_protocol.digests import FileHash, PartHash
from putgate_protocol.messages.complete import CompleteAnswer, CompleteRequest, Copying
from putgate_protocol.messages.initiate import Upload
from putgate_protocol.messages.sign import SignAnswer
from putgate_protocol.messages.stream import DeclareRequest, PartDeclaration, StreamRequest
from putgate_storage.memory import MemoryStore
from putgate_storage.store import StoreUpload
from tests.api.memory_bucket import (
    PART,
    caller,
    send,
)

DATA = os.urandom(3 * PART + 5)

DATA = os.urandom(3 * PART + 5)


async def open_stream(served: Bucket, name: str = "s", part_size: int = PART, **more: Any) -> Upload:
    return await begin_stream(served, caller(), StreamRequest(name=name, part_size=part_size, **more))


def declared(data: bytes, numbers: range | None = None, part_size: int = PART) -> list[PartDeclaration]:
    """Of the whole of `data`, or of these part numbers."""
    pieces = {at // part_size + 1: data[at : at + part_size] for at in range(0, len(data), part_size)}
    return [
        PartDeclaration(
            part_number=number,
            sha256=str(PartHash.of(piece)),
            length=None if len(piece) == part_size else len(piece),
        )
        for number, piece in pieces.items()
        if numbers is None or number in numbers
    ]


async def declare(served: Bucket, stream: Upload, parts: list[PartDeclaration]) -> SignAnswer:
    return await declare_parts(served, caller(), DeclareRequest(upload_id=stream.upload_id, parts=parts))


def end_of(stream: Upload, data: bytes, part_size: int = PART) -> CompleteRequest:
    parts = declared(data, part_size=part_size)
    whole = FileHash.of(PartHash.parse(part.sha256) for part in parts)
    return CompleteRequest(upload_id=stream.upload_id, size=len(data), file_hash=str(whole))


async def finish_stream(served: Bucket, stream: Upload, data: bytes) -> CompleteAnswer | Copying:
    return await complete(served, caller(), end_of(stream, data))


async def stream_in(served: Bucket, store: MemoryStore, data: bytes, name: str = "s", **more: Any) -> Upload:
    """Declared and sent, not completed."""
    stream = await open_stream(served, name, **more)
    for number in range(1, -(-len(data) // PART) + 1):
        page = await declare(served, stream, declared(data, range(number, number + 1)))
        assert [await send(store, part, data) for part in page.parts] == [200]
    return stream


async def left(store: MemoryStore) -> tuple[list[StoreUpload], list[str]]:
    """Open uploads, and the keys below `.putgate/` but those of the index."""
    keys = [key for key in store.objects if "/.putgate/" in key and "/index/" not in key]
    return [found.upload for found in await store.list_uploads("")], keys


def end_of_hash(data: bytes) -> str:
    return str(FileHash.of(PartHash.parse(part.sha256) for part in declared(data)))
