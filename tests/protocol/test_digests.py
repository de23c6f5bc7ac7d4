from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from putgate_protocol.digests import FileHash, Md5, PartHash

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_a_file_hash_is_the_hash_of_the_raw_part_hashes(parts: list[bytes]) -> None:
    raw = b"".join(hashlib.sha256(part).digest() for part in parts)
    assert FileHash.of(map(PartHash.of, parts)) == hashlib.sha256(raw).digest()


@given(st.binary(min_size=32, max_size=32))
def test_text_and_back(raw: bytes) -> None:
    assert PartHash.parse(str(PartHash(raw))) == raw
    assert base64.b64decode(PartHash(raw).base64) == raw


def test_a_file_of_no_bytes() -> None:
    assert str(FileHash.of([])) == EMPTY


@pytest.mark.parametrize("data", [bytearray(b"abc"), memoryview(b"abc")])
def test_any_buffer_is_hashed(data: bytearray | memoryview) -> None:
    assert PartHash.of(data) == PartHash.of(b"abc")


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", "٠" * 64])
def test_what_is_no_hash(text: str) -> None:
    with pytest.raises(ValueError, match="hex"):
        PartHash.parse(text)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_digest_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        FileHash(bytes(size))


@given(st.binary())
def test_an_md5_is_written_as_content_md5_is(data: bytes) -> None:
    digest = Md5.of(data)
    assert digest == hashlib.md5(data, usedforsecurity=False).digest()
    assert str(digest) == base64.b64encode(digest).decode()
    assert Md5.parse(str(digest)) == digest
    assert digest.is_etag(digest.hex())
    assert digest.is_etag(digest.hex().upper())
    assert not digest.is_etag(f"{digest.hex()}-1")
    assert not digest.is_etag("")


@pytest.mark.parametrize(
    "text", ["", "=" * 24, "A" * 24, "A" * 22 + "=", "A" * 21 + "B==", "A" * 22 + "==\n", "٠" * 24, "0" * 32]
)
def test_what_is_no_md5(text: str) -> None:
    with pytest.raises(ValueError):
        Md5.parse(text)
