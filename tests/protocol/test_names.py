from __future__ import annotations

import base64

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from putgate_protocol.names import MAX_KEY_BYTES, MAX_SEGMENT_BYTES, Name, encode, parse_prefix
from putgate_protocol.problems import NameProblem

segments = st.binary(min_size=1, max_size=40).filter(lambda s: b"/" not in s and s not in (b".", b"..", b".putgate"))
names = st.lists(segments, min_size=1, max_size=5).map(b"/".join)


def code_of(raw: bytes, prefix: str = "") -> str | None:
    try:
        Name.parse(raw).key(prefix)
    except NameProblem as problem:
        return problem.code
    return None


@given(names)
def test_key_and_name_are_one_to_one(raw: bytes) -> None:
    name = Name.parse(raw)
    assert Name.from_key(name.key()) == name
    assert Name.from_key(name.key("p/q/"), "p/q/") == name


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_encoding_is_injective(one: bytes, other: bytes) -> None:
    assume(one != other)
    assert encode(one) != encode(other)


@given(st.binary(max_size=200))
def test_an_encoded_name_is_plain_text(raw: bytes) -> None:
    text = encode(raw)
    text.encode()  # valid Unicode: no lone surrogate
    assert not any(ord(c) < 0x20 or c in "\\\x7f" for c in text)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_name_or_a_problem_with_a_code(raw: bytes) -> None:
    assert code_of(raw) in (None, "name_invalid", "name_reserved", "name_too_long")


@given(st.text(max_size=60))
def test_any_key_is_one_name_or_none(key: str) -> None:
    name = Name.from_key(key)
    assert name is None or name.key() == key


@given(names)
def test_the_wire_keeps_every_byte(raw: bytes) -> None:
    name = Name.parse(raw)
    wire = name.to_wire()
    assert Name.from_wire(wire.get("name"), wire.get("name_b64")) == name
    assert ("name" in wire) == (name.text is not None)


@pytest.mark.parametrize("raw", [b"", b"/", b"/a", b"a/", b"a//b", b".", b"..", b"a/.", b"./a", b"a/../b"])
def test_invalid(raw: bytes) -> None:
    assert code_of(raw) == "name_invalid"


@pytest.mark.parametrize("depth", range(4))
@pytest.mark.parametrize("tail", [b"", b"/x"])
def test_putgate_is_reserved_at_any_depth(depth: int, tail: bytes) -> None:
    assert code_of(b"d/" * depth + b".putgate" + tail) == "name_reserved"


@pytest.mark.parametrize("raw", [b".putgate2", b"a.putgate", b".Putgate", b".putgate ", b".putgat%65"])
def test_only_the_very_segment_is_reserved(raw: bytes) -> None:
    assert code_of(raw) is None


def test_a_store_reserves_by_key() -> None:
    def reserved(key: str) -> bool:
        return key.startswith(".uploads/") or key.endswith(".versions")

    assert Name.parse(b".uploads/x").key("p/", reserved) == "p/.uploads/x"
    for raw in (b".uploads/x", b"a.versions"):
        with pytest.raises(NameProblem) as caught:
            Name.parse(raw).key("", reserved)
        assert caught.value.code == "name_reserved"


@pytest.mark.parametrize("unit", [b"a", b"%", b"\xff", b"\n", "é".encode(), "🎉".encode()])
def test_a_segment_has_at_most_255_encoded_bytes(unit: bytes) -> None:
    count = MAX_SEGMENT_BYTES // len(encode(unit).encode())
    assert code_of(b"x/" + unit * count) is None
    assert code_of(b"x/" + unit * (count + 1)) == "name_too_long"


@pytest.mark.parametrize("prefix", ["", "p/", "team-a/deep/"])
def test_a_key_has_at_most_1024_bytes_prefix_included(prefix: str) -> None:
    raw = (b"a" * 200 + b"/") * 5
    raw += b"b" * (MAX_KEY_BYTES - len(prefix) - len(raw))
    assert len(Name.parse(raw).key(prefix)) == MAX_KEY_BYTES
    assert code_of(raw + b"b", prefix) == "name_too_long"


def test_an_absurdly_long_name_is_refused_before_it_is_looked_at() -> None:
    assert code_of(b"/" * (MAX_KEY_BYTES + 1)) == "name_too_long"


@pytest.mark.parametrize(
    ("name", "name_b64"),
    [(None, None), ("a", "YQ=="), (None, "YQ"), (None, "Y Q=="), (None, "é"), (None, ""), ("\ud800", None), ("", None)],
)
def test_wire_forms_that_are_refused(name: str | None, name_b64: str | None) -> None:
    with pytest.raises(NameProblem) as caught:
        Name.from_wire(name, name_b64)
    assert caught.value.code == "name_invalid"


def test_base64_is_taken_for_any_bytes() -> None:
    assert Name.from_wire(None, base64.b64encode(b"plain").decode()).text == "plain"


def test_no_normalisation() -> None:
    assert Name.from_text("\u00e9").key() != Name.from_text("e\u0301").key()


@given(names)
def test_a_message_never_holds_a_control_character(raw: bytes) -> None:
    assert str(Name.parse(raw)).isprintable() or not any(ord(c) < 0x20 or ord(c) == 0x7F for c in str(Name.parse(raw)))


@pytest.mark.parametrize("text", ["", "a/", "team-a/b c/", "é/"])
def test_prefixes(text: str) -> None:
    assert parse_prefix(text) == text


@pytest.mark.parametrize(
    "text", ["a", "/", "/a/", "a//", "../", "a/./", ".putgate/", "a/.putgate/", "a%41/", "a\\b/", "a\n/", "\ud800/"]
)
def test_what_is_no_prefix(text: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        parse_prefix(text)


def test_a_foreign_prefix_has_no_names() -> None:
    assert Name.from_key("team-ab/x", "team-a/") is None
