"""`part_limit`: the limits of a bucket and its part rule."""

from __future__ import annotations

from putgate_protocol.messages.base import Message
from putgate_protocol.parts import PartRule


class PartLimitAnswer(Message):
    """Sizes in bytes. `put_max_size`: the largest file that one PUT commits (0: never). `instant_min_size`: from
    this size on a completed file is registered for instant upload.
    """

    hash_algorithm: str
    part_size: int
    max_parts: int
    max_object_size: int
    max_signed_parts: int
    put_max_size: int
    instant_min_size: int
    requires_md5: bool

    @property
    def rule(self) -> PartRule:
        return PartRule(part_size=self.part_size, max_parts=self.max_parts)
