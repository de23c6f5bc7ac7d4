r"""Names of files, and the keys under which a store keeps them.

A name is a byte string. A key is text that every store accepts: control bytes, `%`, `\`, DEL and bytes that are
not UTF-8 are percent-encoded, everything else stays as people wrote it. The encoding is reversible, so a listing
of keys is a listing of names. Nothing here knows a store; segments that one store reserves are passed in.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from putgate_protocol.problems import NameProblem

RESERVED_SEGMENT = b".putgate"
"""Putgate keeps its own records below this segment; no name may contain it at any depth."""

MAX_KEY_BYTES = 1024
"""S3's limit on a key, prefix included."""

MAX_SEGMENT_BYTES = 255
"""The longest segment that file-system based stores keep (encoded)."""

_ESCAPED = frozenset(b"%\\\x7f") | frozenset(range(0x20))
_PERCENT = re.compile(rb"%([0-9A-F]{2})")

Reserved = Callable[[str], bool]
"""Whether a store keeps an (encoded) key for itself. Given the whole key."""


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """A validated name. `raw` is what the client said, byte for byte."""

    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Check the rules that hold for every name.

        Raises `NameProblem` with code `name_invalid`, `name_reserved` or `name_too_long`.
        """
        if not raw:
            raise NameProblem.invalid("is empty")
        if len(raw) > MAX_KEY_BYTES:
            raise NameProblem.too_long(f"has {len(raw)} bytes; a key may have {MAX_KEY_BYTES}")
        for segment in raw.split(b"/"):
            _check_segment(segment)
        return cls(raw)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """A name from text, as JSON carries it."""
        try:
            return cls.parse(text.encode())
        except UnicodeEncodeError:
            raise NameProblem.invalid("is not valid Unicode; use name_b64 for other bytes") from None

    @classmethod
    def from_wire(cls, name: str | None, name_b64: str | None) -> Self:
        """Read the pair of fields of which exactly one is given."""
        if (name is None) == (name_b64 is None):
            raise NameProblem.invalid("must be given once, as `name` or as `name_b64`")
        if name is not None:
            return cls.from_text(name)
        try:
            return cls.parse(base64.b64decode(name_b64 or "", validate=True))
        except ValueError:
            raise NameProblem.invalid("in `name_b64` is not standard base64") from None

    @classmethod
    def from_key(cls, key: str, prefix: str = "") -> Self | None:
        """The name whose key this is, or None where the key encodes no name."""
        if not key.startswith(prefix):
            return None
        encoded = key[len(prefix) :].encode("utf-8", "surrogatepass")
        raw = _PERCENT.sub(lambda m: bytes([int(m[1], 16)]), encoded)
        try:
            name = cls.parse(raw)
        except NameProblem:
            return None
        return name if name.encoded == key[len(prefix) :] else None

    @property
    def encoded(self) -> str:
        """The name as part of a key."""
        return encode(self.raw)

    def key(self, prefix: str = "", reserved: Reserved | None = None) -> str:
        """The key below `prefix`.

        Raises `NameProblem`: `name_too_long` by the limits on keys, `name_reserved` where `reserved` says that
        the store keeps this key for itself.
        """
        key = prefix + self.encoded
        if (size := len(key.encode())) > MAX_KEY_BYTES:
            raise NameProblem.too_long(f"needs a key of {size} bytes; a key may have {MAX_KEY_BYTES}")
        for segment in key.split("/"):
            if (size := len(segment.encode())) > MAX_SEGMENT_BYTES:
                raise NameProblem.too_long(
                    f"has a segment of {size} bytes when encoded; a segment may have {MAX_SEGMENT_BYTES}"
                )
        if reserved is not None and reserved(key):
            raise NameProblem.reserved("is one that this store keeps for itself")
        return key

    @property
    def text(self) -> str | None:
        """The name as text, or None where it is not UTF-8."""
        try:
            return self.raw.decode()
        except UnicodeDecodeError:
            return None

    def to_wire(self) -> dict[str, str]:
        """`{"name": …}` where the name is UTF-8, else `{"name_b64": …}`."""
        text = self.text
        return {"name": text} if text is not None else {"name_b64": base64.b64encode(self.raw).decode()}

    def __str__(self) -> str:
        """For people and logs: never ambiguous, never a control character."""
        return self.encoded


def encode(raw: bytes) -> str:
    """Percent-encode what a key must not hold; reversible."""
    if raw.isascii() and not _ESCAPED.intersection(raw):
        return raw.decode("ascii")
    out: list[str] = []
    for piece in _valid_runs(raw):
        out.extend(f"%{byte:02X}" for byte in piece) if isinstance(piece, bytes) else out.append(
            "".join(f"%{ord(c):02X}" if ord(c) in _ESCAPED else c for c in piece)
        )
    return "".join(out)


def _valid_runs(raw: bytes) -> list[str | bytes]:
    """Split into runs of valid UTF-8 (text) and the bytes between them."""
    runs: list[str | bytes] = []
    at = 0
    while at < len(raw):
        try:
            runs.append(raw[at:].decode())
            break
        except UnicodeDecodeError as error:
            if error.start:
                runs.append(raw[at : at + error.start].decode())
            runs.append(raw[at + error.start : at + error.end])
            at += error.end
    return runs


def _check_segment(segment: bytes) -> None:
    if not segment:
        raise NameProblem.invalid("has an empty segment: no leading, trailing or double slash")
    if segment in (b".", b".."):
        raise NameProblem.invalid(f"has a segment {segment.decode()!r}")
    if segment == RESERVED_SEGMENT:
        raise NameProblem.reserved(f"has a segment {RESERVED_SEGMENT.decode()!r}, which Putgate keeps for itself")


def parse_prefix(text: str) -> str:
    """A prefix of a bucket: an encoded key's beginning, empty or ending in `/`, of whole valid segments.

    Raises `ValueError`.
    """
    if text == "":
        return text
    if not text.endswith("/"):
        raise ValueError("a prefix is empty or ends in '/'")
    try:
        name = Name.from_text(text[:-1])
    except NameProblem as error:
        raise ValueError(f"not a prefix: {error.detail}") from None
    if name.encoded != text[:-1]:
        raise ValueError("a prefix holds no control character, '%' or '\\'")
    return text
