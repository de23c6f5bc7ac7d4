"""Signed requests that are held until their turn comes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from putgate_protocol.messages.base import SignedPart

MARGIN = 5.0
"""Seconds before its end from which on a URL is not used: the request must still reach the store."""


class SignAgain(Exception):
    """The part is to be tried again, perhaps under a new signature. `status`: what the store answered, or would."""

    def __init__(self, message: str, *, status: int = 403) -> None:
        super().__init__(message)
        self.status = status


class Signatures:
    """Signed requests with the end of each on this machine's monotonic clock; a server's clock is not compared."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[SignedPart, float]] = {}

    def add(self, signed: Iterable[SignedPart]) -> None:
        now = asyncio.get_running_loop().time()
        for part in signed:
            life = part.expires_in - min(MARGIN, part.expires_in / 10)
            self._held[part.part_number] = (part, now + life)

    def live(self, number: int) -> SignedPart | None:
        held = self._held.get(number)
        return held[0] if held is not None and asyncio.get_running_loop().time() < held[1] else None

    def new(self, number: int) -> SignedPart:
        """What was signed just now. Raises `SignAgain` where it has ended all the same."""
        signed = self.live(number)
        if signed is None:
            raise SignAgain(f"part {number}: its new signature is of no use")
        return signed

    def was_signed(self, number: int) -> bool:
        return number in self._held

    def drop(self, number: int) -> None:
        """Keeps the note that there was one."""
        if number in self._held:
            self._held[number] = (self._held[number][0], 0.0)
