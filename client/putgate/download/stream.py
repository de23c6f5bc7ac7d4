"""A download into a stream: bytes leave as they come, and only the end tells whether they were right. Blocks."""

from __future__ import annotations

from typing import BinaryIO

from putgate.download.digests import PartDigests
from putgate.download.unfinished import FOREIGN_PART
from putgate.errors import NotVerified
from putgate.wire import Stat
from putgate_protocol.digests import FileHash, PartHash
from putgate_protocol.names import Name
from putgate_protocol.parts import PartPlan


class Poured:
    """What is written to `stream`, with its part hashes."""

    def __init__(self, stream: BinaryIO, name: Name, stat: Stat) -> None:
        self._stream = stream
        self._name = name
        self._stat = stat
        self._digests = PartDigests(PartPlan(size=stat.file.size, part_size=stat.part_size or FOREIGN_PART))
        self._hashes: list[PartHash] = []

    @property
    def position(self) -> int:
        return self._digests.position

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        rest = view
        while rest:
            # An unbuffered stream may take less than it is given.
            rest = rest[self._stream.write(rest) :]
        self._hashes.extend(digest for _, digest in self._digests.update(view))

    def finish(self) -> None:
        """Raises `NotVerified`: what was written is wrong."""
        self._stream.flush()
        expected = self._stat.file.file_hash
        if self._stat.part_size and expected and str(FileHash.of(self._hashes)) != expected:
            raise NotVerified(f"{self._name}: the bytes that arrived, and were written, are not those that were stored")
