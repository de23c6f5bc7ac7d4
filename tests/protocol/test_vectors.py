"""The published vectors: they are what the code says, and an independent reading of the protocol agrees."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from typing import Any

import pytest

from putgate_protocol.names import Name
from putgate_protocol.problems import STATUS
from tests.protocol import vectors

PUBLISHED: dict[str, Any] = json.loads(vectors.PATH.read_text())


def test_the_file_is_what_the_generator_writes() -> None:
    assert vectors.PATH.read_text() == vectors.text(), "run `python -m tests.protocol.vectors`"


@pytest.mark.parametrize("vector", PUBLISHED["part_rule"], ids=lambda v: f"{v['part_size']}-{v['size']}")
def test_part_rule(vector: dict[str, int]) -> None:
    # Once more, by closed form instead of by loop.
    base, most, size = vector["part_size"], vector["max_parts"], vector["size"]
    doublings = max(0, math.ceil(math.log2(size / (base * most)))) if size > base * most else 0
    used = base << doublings
    parts = (size + used - 1) // used
    assert (vector["part_size_used"], vector["parts"]) == (used, parts)
    assert vector["last_length"] == size - used * max(0, parts - 1)


@pytest.mark.parametrize("vector", PUBLISHED["hashes"], ids=lambda v: f"{v['size']}-{v['part_size']}")
def test_hashes(vector: dict[str, Any]) -> None:
    data = bytes((i * 7 + 3) % 251 for i in range(vector["size"]))
    step = vector["part_size"]
    digests = [hashlib.sha256(data[at : at + step]) for at in range(0, len(data), step)]
    assert vector["part_hashes"] == [d.hexdigest() for d in digests]
    assert vector["file_hash"] == hashlib.sha256(b"".join(d.digest() for d in digests)).hexdigest()


@pytest.mark.parametrize("vector", PUBLISHED["names"], ids=lambda v: v["key"][:20].encode().hex())
def test_names(vector: dict[str, str]) -> None:
    raw = vector["name"].encode() if "name" in vector else base64.b64decode(vector["name_b64"])
    assert vector["key"] == vector["prefix"] + _encoded_slowly(raw)
    back = Name.from_key(vector["key"], vector["prefix"])
    assert back is not None
    assert back.raw == raw


def _encoded_slowly(raw: bytes) -> str:
    """As PROTOCOL says it, by another way: decode with escapes for what is not UTF-8, then look at each character."""
    out = ""
    for char in raw.decode("utf-8", "surrogateescape"):
        point = ord(char)
        if 0xDC80 <= point <= 0xDCFF:
            out += f"%{point - 0xDC00:02X}"
        elif point < 0x20 or char in "%\\\x7f":
            out += f"%{point:02X}"
        else:
            out += char
    return out


@pytest.mark.parametrize("vector", PUBLISHED["paths"], ids=lambda v: v["path"][:30])
def test_paths(vector: dict[str, str]) -> None:
    raw = vector["name"].encode() if "name" in vector else base64.b64decode(vector["name_b64"])
    plain = re.compile(rb"[A-Za-z0-9._~/-]")
    slowly = "".join(chr(byte) if plain.fullmatch(bytes([byte])) else f"%{byte:02X}" for byte in raw)
    assert vector["path"] == f"/files/{slowly}"


def test_each_name_code_has_vectors() -> None:
    codes = {vector["code"] for vector in PUBLISHED["bad_names"]}
    assert codes == {code for code in STATUS if code.startswith("name_") and STATUS[code] == 400}


@pytest.mark.parametrize("key", PUBLISHED["keys_without_name"])
def test_keys_without_name(key: str) -> None:
    assert Name.from_key(key) is None
