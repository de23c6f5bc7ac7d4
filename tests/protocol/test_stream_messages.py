"""The messages of streams: what is written is read again, and what is no such message is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from putgate_protocol.messages.base import MAX_SIZE
from putgate_protocol.messages.complete import CompleteRequest
from putgate_protocol.messages.stream import MAX_DECLARED, DeclareRequest, PartDeclaration, StreamRequest

HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
SIZES = st.integers(-MAX_SIZE, MAX_SIZE)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)

PARTS = st.builds(
    PartDeclaration,
    part_number=SIZES,
    sha256=HASHES,
    length=st.none() | SIZES,
    md5=st.none() | st.text("ABCxyz019+/=", min_size=24, max_size=24),
)
STREAMS = st.builds(
    StreamRequest,
    name=TEXT,
    part_size=SIZES,
    content_type=st.none() | TEXT,
    metadata=st.none() | st.dictionaries(TEXT, TEXT, max_size=4),
    if_absent=st.booleans(),
    if_match=st.none() | TEXT,
)
DECLARATIONS = st.builds(DeclareRequest, upload_id=TEXT, parts=st.lists(PARTS, min_size=1, max_size=8))
ENDS = st.builds(CompleteRequest, upload_id=TEXT, size=st.none() | SIZES, file_hash=st.none() | HASHES)


@given(st.one_of(STREAMS, DECLARATIONS, ENDS))
def test_what_is_written_is_read_again(message: StreamRequest | DeclareRequest | CompleteRequest) -> None:
    kind = type(message)
    assert kind.model_validate_json(message.model_dump_json(exclude_none=True)) == message
    assert kind.model_validate(message.to_wire() | {"future": [1]}) == message


@given(STREAMS)
def test_a_stream_says_neither_size_nor_hashes(message: StreamRequest) -> None:
    assert {"size", "file_hash", "parts"}.isdisjoint(message.to_wire())


PART = {"part_number": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "changed",
    [
        {"part_number": "1"},
        {"part_number": True},
        {"part_number": MAX_SIZE + 1},
        {"sha256": "0" * 63},
        {"sha256": None},
        {"length": 1.0},
        {"length": "8Mi"},
        {"md5": "x" * 23},
    ],
)
def test_what_is_no_declaration_is_refused(changed: dict[str, Any]) -> None:
    assert DeclareRequest.model_validate({"upload_id": "u", "parts": [PART]}).parts[0].length is None
    with pytest.raises(ValidationError):
        DeclareRequest.model_validate({"upload_id": "u", "parts": [PART | changed]})


@pytest.mark.parametrize("parts", [[], [PART] * (MAX_DECLARED + 1), {}, None])
def test_a_page_has_one_to_a_thousand_parts(parts: object) -> None:
    with pytest.raises(ValidationError):
        DeclareRequest.model_validate({"upload_id": "u", "parts": parts})


@pytest.mark.parametrize(
    "changed", [{"part_size": None}, {"part_size": "8Mi"}, {"if_absent": 1}, {"metadata": {"": "x"}}]
)
def test_what_is_no_stream_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StreamRequest.model_validate({"name": "a", "part_size": 8} | changed)
