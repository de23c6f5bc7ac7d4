"""Part hashes, and the file hash that they make.

A part hash is the SHA-256 of a part's bytes. The file hash is the SHA-256 over the concatenated raw part hashes:
the same digest that S3 calls the composite SHA-256 checksum of a multipart upload. Where a store checks no SHA-256,
MD5s go beside the part hashes: they bind what is sent, and never name content.
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


class Md5(bytes):
    """MD5 of one part's bytes: 16 raw bytes; on the wire base64, as HTTP's Content-MD5 (RFC 1864) has it."""

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        if len(raw) != 16:
            raise ValueError(f"an MD5 digest has 16 bytes, not {len(raw)}")
        return super().__new__(cls, raw)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Self:
        return cls(hashlib.md5(data, usedforsecurity=False).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read base64. Raises `ValueError`."""
        raw = base64.b64decode(text, validate=True)
        if base64.b64encode(raw).decode("ascii") != text:
            raise ValueError("an MD5 is 24 characters of base64")
        return cls(raw)

    def is_etag(self, etag: str) -> bool:
        """Whether a store's ETag of a part says the same; some write it in upper case."""
        return etag.lower() == self.hex()

    def __str__(self) -> str:
        return base64.b64encode(self).decode("ascii")


class FileHash(Sha256):
    """SHA-256 over the concatenated raw part hashes; of a file of no bytes: over nothing."""

    __slots__ = ()

    @classmethod
    def of(cls, parts: Iterable[bytes]) -> Self:
        return cls(hashlib.sha256(b"".join(parts)).digest())
