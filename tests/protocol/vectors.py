"""Writes `docs/vectors.json`: what a client in any language computes, with the answers.

    python -m tests.protocol.vectors

Nothing here decides anything: every answer comes from `putgate_protocol`, and the file is what was published.
A change of an existing vector is a change of the protocol.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from putgate_protocol.digests import FileHash, PartHash
from putgate_protocol.names import Name
from putgate_protocol.parts import MIB, PartRule
from putgate_protocol.problems import NameProblem

PATH = Path(__file__).parents[2] / "docs" / "vectors.json"

TIB = 1024**4

RULES = [(8 * MIB, 10_000), (5 * MIB, 10_000), (8 * MIB, 1_000), (64 * MIB, 10_000), (4, 3)]

HASHED = [(0, 4), (1, 4), (3, 4), (4, 4), (5, 4), (8, 4), (9, 4), (1000, 64), (65_536, 4096), (65_537, 4096)]

NAMES = [
    b"a",
    b"a/b/c.txt",
    b"with space",
    b" leading and trailing ",
    "Grüße/日本語/🎉.txt".encode(),
    "e\u0301 is not \u00e9".encode(),
    b"a+b",
    b"100%",
    b"%41",
    b"%zz",
    b"a#b?c&d=e",
    b"back\\slash",
    b"line\nfeed",
    b"tab\tand\rreturn",
    b"nul\x00byte",
    b"del\x7f",
    b"\"quoted\" 'twice' <x> `y` {z} |~^",
    b"latin-1 \xe9",
    b"\xff\xfe/\xc3",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x8e",
    b"...",
    b".hidden",
    b".putgate.txt",
    b"x.putgate",
    b".PUTGATE",
    b"-",
    b"a" * 255,
    b"/".join([b"a" * 255] * 4),
    b"%" * 85,
    b"\xff" * 85,
]

PREFIXED = [("team-a/", b"x"), ("a/b c/", b"100%"), ("p/", b"/".join([b"a" * 255] * 3 + [b"b" * 254]))]

BAD_NAMES = [
    ("", b""),
    ("", b"/a"),
    ("", b"a/"),
    ("", b"/"),
    ("", b"a//b"),
    ("", b"."),
    ("", b".."),
    ("", b"a/./b"),
    ("", b"a/.."),
    ("", b".putgate"),
    ("", b".putgate/v1/bucket.json"),
    ("", b"a/b/.putgate"),
    ("", b"a/.putgate/b"),
    ("", b"a" * 256),
    ("", b"%" * 86),
    ("", b"\xff" * 86),
    ("", b"a/" + b"\n" * 86),
    ("", b"/".join([b"a" * 255] * 4) + b"a"),
    ("", b"/".join([b"a" * 255] * 4) + b"/a"),
    ("p/", b"/".join([b"a" * 255] * 4)),
]

NOT_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    "..",
    ".putgate/v1/bucket.json",
    "%41",
    "a%2Fb",
    "a%0a",
    "a%",
    "a%FFb%C3%A9",
    "a\\b",
]


def content(size: int) -> bytes:
    """The file of `size` bytes that the hashes are of."""
    return bytes((7 * i + 3) % 251 for i in range(size))


def part_rule_vectors() -> list[dict[str, int]]:
    return [
        _part_rule(PartRule(part_size=base, max_parts=most), size) for base, most in RULES for size in sizes(base, most)
    ]


def sizes(part_size: int, max_parts: int) -> list[int]:
    """Around every boundary of the rule."""
    full = part_size * max_parts
    edges = {0, 1, part_size - 1, part_size, part_size + 1, 2 * part_size, 5 * TIB}
    for doublings in range(4):
        edges |= {(full << doublings) - 1, full << doublings, (full << doublings) + 1}
    return sorted(edges)


def _part_rule(rule: PartRule, size: int) -> dict[str, int]:
    plan = rule.plan(size)
    return {
        "part_size": rule.part_size,
        "max_parts": rule.max_parts,
        "size": size,
        "part_size_used": plan.part_size,
        "parts": plan.count,
        "last_length": plan.part(plan.count).length if plan.count else 0,
    }


def hash_vectors() -> list[dict[str, Any]]:
    return [_hashes(size, part_size) for size, part_size in HASHED]


def _hashes(size: int, part_size: int) -> dict[str, Any]:
    data = content(size)
    hashes = [PartHash.of(data[at : at + part_size]) for at in range(0, size, part_size)]
    return {
        "size": size,
        "part_size": part_size,
        "part_hashes": [str(part) for part in hashes],
        "file_hash": str(FileHash.of(hashes)),
    }


def name_vectors() -> list[dict[str, str]]:
    pairs = [("", raw) for raw in NAMES] + PREFIXED
    return [{"prefix": prefix, **_wire(raw), "key": Name.parse(raw).key(prefix)} for prefix, raw in pairs]


def path_vectors() -> list[dict[str, str]]:
    return [{**_wire(raw), "path": f"/files/{quote(raw, safe='/')}"} for raw in NAMES]


def bad_name_vectors() -> list[dict[str, str]]:
    return [{"prefix": prefix, **_wire(raw), "code": _code(prefix, raw)} for prefix, raw in BAD_NAMES]


def _wire(raw: bytes) -> dict[str, str]:
    try:
        return {"name": raw.decode()}
    except UnicodeDecodeError:
        return {"name_b64": base64.b64encode(raw).decode()}


def _code(prefix: str, raw: bytes) -> str:
    try:
        key = Name.parse(raw).key(prefix)
    except NameProblem as problem:
        return problem.code
    raise AssertionError(f"{key!r} is a valid key")


def vectors() -> dict[str, Any]:
    return {
        "about": {
            "part_rule": "Start at part_size; double while ceil(size / part_size) > max_parts.",
            "hashes": "Of the file whose byte i, from 0, is (7 i + 3) mod 251. Part hash: SHA-256 of the part. "
            "File hash: SHA-256 over the concatenated raw part hashes; of no bytes for a file without parts.",
            "names": "key = prefix + the name with control bytes, %, \\, DEL and bytes that are not UTF-8 "
            "percent-encoded in upper-case hex. A name is given as text, or in base64 where it is not UTF-8.",
            "paths": "Below the API's URL: each byte of the name but A-Z a-z 0-9 - . _ ~ / is percent-encoded, once. "
            "This is how answers write it; / may be %2F as well.",
            "bad_names": "What is refused, with the code of the problem.",
            "keys_without_name": "Keys, below an empty prefix, that encode no name: left out of listings.",
        },
        "part_rule": part_rule_vectors(),
        "hashes": hash_vectors(),
        "names": name_vectors(),
        "paths": path_vectors(),
        "bad_names": bad_name_vectors(),
        "keys_without_name": NOT_KEYS,
    }


def text() -> str:
    return json.dumps(vectors(), indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    PATH.write_text(text())
