"""How declared files become batches that the API takes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from putgate_protocol.messages.base import MAX_PARTS_LISTED
from putgate_protocol.messages.batch import MAX_BODY_BYTES, MAX_ITEMS
from putgate_protocol.messages.part_limit import PartLimitAnswer
from putgate_protocol.parts import MIB

ENVELOPE = len('{"items":[]}')
"""Bytes of a batch's body around its items."""

WRAPPING = len('{"initiate":},')
"""Bytes around one item, with its comma; `complete` needs no more."""

PUT_BYTES = 64 * MIB
"""File bytes behind one batch: its URLs live 120 s, and the last must still be alive when its turn comes."""


class Weighed(Protocol):
    """`name`: sorts and must be unique in a batch. `json`: the request. `parts`: hashes in it, and signatures it
    asks for. `size`: file bytes.
    """

    @property
    def name(self) -> bytes: ...
    @property
    def json(self) -> bytes: ...
    @property
    def parts(self) -> int: ...
    @property
    def size(self) -> int: ...


Item = TypeVar("Item", bound=Weighed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one batch may hold."""

    items: int = MAX_ITEMS
    hashes: int = MAX_PARTS_LISTED
    signatures: int = MAX_ITEMS
    body: int = MAX_BODY_BYTES
    put_bytes: int = PUT_BYTES

    @classmethod
    def of(cls, limit: PartLimitAnswer) -> Bounds:
        return cls(signatures=max(1, limit.max_signed_parts))


class Batch(Generic[Item]):
    """Items under their bounds; the first always fits."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._names: set[bytes] = set()
        self._parts = 0
        self._body = ENVELOPE
        self._bytes = 0
        self.items: list[Item] = []

    def fits(self, item: Item) -> bool:
        bounds = self._bounds
        return not self.items or (
            item.name not in self._names
            and len(self.items) < bounds.items
            and self._parts + item.parts <= min(bounds.hashes, bounds.signatures)
            and self._body + len(item.json) + WRAPPING <= bounds.body
            and self._bytes + item.size <= bounds.put_bytes
        )

    def add(self, item: Item) -> None:
        self._names.add(item.name)
        self._parts += item.parts
        self._body += len(item.json) + WRAPPING
        self._bytes += item.size
        self.items.append(item)


def batches(items: Iterable[Item], bounds: Bounds) -> Iterator[list[Item]]:
    """Split into batches in the order of names, so that the API can look at many of them with one LIST."""
    batch: Batch[Item] = Batch(bounds)
    for item in sorted(items, key=lambda item: item.name):
        if not batch.fits(item):
            yield batch.items
            batch = Batch(bounds)
        batch.add(item)
    if batch.items:
        yield batch.items
