"""The part rule and the part plan: how a size becomes parts. Pure, and the same for every client.

Two clients that cut one file differently would compute different file hashes and never find each other's
content, so the rule is part of the protocol (`docs/vectors.json` holds its published vectors).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MIB = 1024 * 1024

MIN_PART_SIZE = 5 * MIB
"""S3's floor for every part but the last."""

MAX_PART_SIZE = 5 * 1024 * MIB
"""S3's ceiling for one part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One slice of a file: bytes `offset` to `offset + length`, numbered from 1."""

    number: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRule:
    """Start at `part_size` bytes; double while a file would need more than `max_parts` parts."""

    part_size: int
    max_parts: int

    def __post_init__(self) -> None:
        if self.part_size < 1 or self.max_parts < 1:
            raise ValueError("part_size and max_parts are positive")

    def part_size_for(self, size: int) -> int:
        """The size in bytes of every part but the last, for a file of `size` bytes."""
        if size < 0:
            raise ValueError("a size is not negative")
        part_size = self.part_size
        while -(-size // part_size) > self.max_parts:
            part_size *= 2
        return part_size

    def plan(self, size: int) -> PartPlan:
        return PartPlan(size=size, part_size=self.part_size_for(size))


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPlan:
    """The parts of a file of `size` bytes; a file of no bytes has none."""

    size: int
    part_size: int

    def __post_init__(self) -> None:
        if self.size < 0 or self.part_size < 1:
            raise ValueError("a size is not negative, a part size is positive")

    @property
    def count(self) -> int:
        return -(-self.size // self.part_size)

    def __iter__(self) -> Iterator[Part]:
        return (self.part(number) for number in range(1, self.count + 1))

    def part(self, number: int) -> Part:
        """The part of this number, from 1. Raises `ValueError` for a number outside the plan."""
        if not 1 <= number <= self.count:
            raise ValueError(f"part {number} is outside 1…{self.count}")
        offset = (number - 1) * self.part_size
        return Part(number=number, offset=offset, length=min(self.part_size, self.size - offset))
