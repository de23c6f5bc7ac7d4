from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from putgate_protocol import problems
from putgate_protocol.problems import STATUS, NameProblem, Problem, problem

PUBLISHED = {
    400: "json_invalid request_invalid cursor_invalid name_invalid name_reserved name_too_long size_invalid "
    "parts_mismatch hash_mismatch md5_required metadata_invalid content_type_refused part_number_invalid "
    "upload_id_invalid",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found upload_gone",
    409: "part_size_mismatch parts_missing part_redeclared upload_busy name_conflict",
    410: "upload_expired",
    412: "precondition_failed",
    413: "too_large body_too_large",
    429: "too_many_uploads rate_limited",
    500: "internal_error",
    501: "precondition_unsupported",
    502: "store_refused",
    503: "store_unavailable not_ready",
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def test_every_code_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()
    assert [code for code in STATUS if f"`{code}`" not in text] == []


def test_every_published_code_keeps_its_status() -> None:
    assert {code: status for status, codes in PUBLISHED.items() for code in codes.split()} == STATUS


@pytest.mark.parametrize("code", STATUS)
def test_there_and_back(code: str) -> None:
    before = problem(code, "why", retry_after=1.5, parts=(3, 4))
    after = Problem.from_wire(before.status, json.loads(json.dumps(before.to_wire())))
    assert type(after) is type(before)
    assert (after.code, after.detail, after.retry_after, after.parts) == (code, "why", 1.5, (3, 4))
    assert STATUS[code] in type(after).statuses
    assert after.status == STATUS[code]


def test_an_answer_without_a_body_is_known_by_its_header() -> None:
    found = Problem.from_wire(400, None, code="name_reserved")
    assert (found.code, found.detail) == ("name_reserved", "the server refused: name reserved")
    assert Problem.from_wire(400, None, code="made up").code == "request_invalid"


def test_what_says_nothing_is_left_out() -> None:
    assert set(problem("forbidden", "no").to_wire()) == {"type", "title", "status", "code", "detail"}


@given(st.integers(400, 599), json_values)
def test_any_answer_becomes_a_problem(status: int, body: object) -> None:
    assert Problem.from_wire(status, body).code in STATUS


@given(json_values, json_values, json_values)
def test_a_foreign_problem_document_does_no_harm(detail: object, retry_after: object, parts: object) -> None:
    found = Problem.from_wire(
        503, {"code": "store_unavailable", "detail": detail, "retry_after": retry_after, "parts": parts}
    )
    assert found.code == "store_unavailable"
    assert found.retry_after is None or 0 <= found.retry_after <= 86_400
    assert all(type(part) is int for part in found.parts)
    assert len(found.detail) <= 2000


@pytest.mark.parametrize(
    "retry_after", [10**400, float("inf"), float("nan"), -1, True, "5", None], ids=lambda v: str(v)[:9]
)
def test_an_absurd_retry_after_is_no_retry_after(retry_after: object) -> None:
    assert Problem.from_wire(503, {"code": "not_ready", "detail": "", "retry_after": retry_after}).retry_after is None


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "unauthenticated"), (413, "body_too_large"), (429, "rate_limited"), (500, "internal_error")]
    + [(status, "store_unavailable") for status in (502, 503, 504, 520)],
)
def test_a_proxy_s_page_is_read_by_its_status(status: int, code: str) -> None:
    assert Problem.from_wire(status, "<html>").code == code
    assert Problem.from_wire(status, {"code": "no such code"}).code == code


def test_a_name_problem_is_a_bad_request() -> None:
    assert isinstance(NameProblem.invalid("is empty"), problems.BadRequest)
    assert str(NameProblem.invalid("is empty")) == "the name is empty (name_invalid)"


def test_a_detail_with_what_no_text_can_hold_is_written_out() -> None:
    found = Problem.from_wire(404, {"code": "not_found", "detail": "x\ud800y"})
    assert found.detail == "x\\ud800y"
