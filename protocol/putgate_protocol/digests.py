"""Part hashes, and the file hash that they make.

A part hash is the SHA-256 of a part's bytes. The file hash is the SHA-256 over the concatenated raw part hashes:
the same digest that S3 calls the composite SHA-256 checksum of a multipart upload.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from typing import Self

_HEX = re.compile(r"[0-9a-f]{64}")


class Sha256(bytes):
    """32 raw bytes; on the wire 64 lower-case hex digits."""

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        if len(raw) != 32:
            raise ValueError(f"a SHA-256 digest has 32 bytes, not {len(raw)}")
        return super().__new__(cls, raw)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read lower-case hex. Raises `ValueError`."""
        if not _HEX.fullmatch(text):
            raise ValueError("a hash is 64 lower-case hex digits")
        return cls(bytes.fromhex(text))

    @property
    def base64(self) -> str:
        """As stores' checksum headers write it."""
        return base64.b64encode(self).decode("ascii")

    def __str__(self) -> str:
        return self.hex()


class PartHash(Sha256):
    """SHA-256 of one part's bytes."""

    __slots__ = ()

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Self:
        return cls(hashlib.sha256(data).digest())


class FileHash(Sha256):
    """SHA-256 over the concatenated raw part hashes; of a file of no bytes: over nothing."""

    __slots__ = ()

    @classmethod
    def of(cls, parts: Iterable[bytes]) -> Self:
        return cls(hashlib.sha256(b"".join(parts)).digest())
