"""Part hashes of bytes that come in order, in pieces of any size. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from putgate_protocol.digests import PartHash
from putgate_protocol.parts import PartPlan


class PartDigests:
    """From the beginning of part `first` on. `position`: the offset in the file of the next byte."""

    def __init__(self, plan: PartPlan, first: int = 1) -> None:
        self._plan = plan
        self._number = first
        self._digest = hashlib.sha256()
        self.position = plan.part(first).offset if first <= plan.count else plan.size

    def update(self, data: memoryview) -> Iterator[tuple[int, PartHash]]:
        """Take bytes; each part that they end comes with its number and hash. Raises `ValueError` past the end."""
        while data:
            part = self._plan.part(self._number)
            end = part.offset + part.length
            piece, data = data[: end - self.position], data[end - self.position :]
            self._digest.update(piece)
            self.position += len(piece)
            if self.position == end:
                yield self._number, PartHash(self._digest.digest())
                self._number += 1
                self._digest = hashlib.sha256()
