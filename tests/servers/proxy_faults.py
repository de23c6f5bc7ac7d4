"""The faults that the proxy puts between a client and a store: values, and nothing that acts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipBit:
    """Flip the lowest bit of the request's body byte `at` (of its last byte, when the body is shorter)."""

    at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipAnswerBit:
    """Flip the lowest bit of the answer's body byte `at` (of its last byte, when the body is shorter)."""

    at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Forward this many bytes of the request's body, then break both connections."""

    after_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CutAnswer:
    """Forward the request, and this many bytes of the answer's body, then break both connections."""

    after_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CutBefore:
    """Break the client's connection before anything is forwarded."""


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """Forward the request whole, wait for the whole answer, then break the connection without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Hold the request for `seconds` before it is forwarded."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Read the request, forward nothing, answer this."""

    status: int
    retry_after: int | None = None
    body: bytes = b""
    content_type: str = "application/xml"

    def encoded(self, *, closes: bool, bodiless: bool) -> bytes:
        lines = [
            f"HTTP/1.1 {self.status} Injected",
            f"Content-Length: {len(self.body)}",
            f"Content-Type: {self.content_type}",
        ]
        if self.retry_after is not None:
            lines.append(f"Retry-After: {self.retry_after}")
        if closes:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if bodiless else self.body)


Fault = FlipBit | FlipAnswerBit | Cut | CutAnswer | CutBefore | LoseAnswer | Delay | Answer


def flip(piece: bytes, offset: int, at: int, length: int | None) -> bytes:
    """`piece`, which lies at `offset` of a body of `length` bytes, with the bit of byte `at` flipped if it holds it."""
    target = at if length is None else min(at, length - 1)
    if not offset <= target < offset + len(piece):
        return piece
    spoiled = bytearray(piece)
    spoiled[target - offset] ^= 1
    return bytes(spoiled)
