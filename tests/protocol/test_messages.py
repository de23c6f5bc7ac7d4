from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from putgate_protocol.messages.abort import AbortRequest
from putgate_protocol.messages.base import MAX_PARTS_LISTED, MAX_SIZE, File, Message, SignedPart
from putgate_protocol.messages.batch import MAX_ITEMS, BatchRequest
from putgate_protocol.messages.complete import CompleteAnswer, CompleteOutcome, CompleteRequest, Copying
from putgate_protocol.messages.files import ListAnswer
from putgate_protocol.messages.initiate import Exists, InitiateAnswer, InitiateRequest, Upload
from putgate_protocol.messages.part_limit import PartLimitAnswer
from putgate_protocol.messages.sign import SignRequest
from putgate_protocol.messages.status import StatusRequest
from putgate_protocol.parts import MIB
from putgate_protocol.problems import NameProblem

HASH = "0" * 64
NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)

INITIATE = {"name": "a", "size": 1, "file_hash": HASH, "part_size": 8 * MIB, "parts": [HASH]}
UPLOAD_ID_ONLY: list[type[Message]] = [CompleteRequest, AbortRequest, StatusRequest]


def initiate(**changed: Any) -> InitiateRequest:
    return InitiateRequest.model_validate({**INITIATE, **changed})


def test_a_request_is_read() -> None:
    request = initiate(metadata={"k": "v"}, if_absent=True, md5=["x" * 24], recheck=3, content_type="text/plain")
    assert request.parsed_name().text == "a"
    assert (request.size, request.parts, request.if_absent, request.recheck) == (1, [HASH], True, 3)


def test_unknown_fields_are_ignored() -> None:
    assert initiate(future={"a": [1]}) == initiate()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", "1"),
        ("size", 1.0),
        ("size", True),
        ("size", None),
        ("size", MAX_SIZE + 1),
        ("size", 10**400),
        ("size", -(10**30)),
        ("name", 1),
        ("name", b"a"),
        ("name", "a" * (64 * 1024 + 1)),
        ("name", "\ud800"),
        ("name_b64", ["YQ=="]),
        ("file_hash", "0" * 63),
        ("file_hash", None),
        ("part_size", "8Mi"),
        ("parts", HASH),
        ("parts", [HASH, 1]),
        ("parts", [HASH[:-1]]),
        ("parts", [HASH] * (MAX_PARTS_LISTED + 1)),
        ("parts", {HASH: HASH}),
        ("md5", ["x" * 23]),
        ("md5", "x" * 24),
        ("content_type", ""),
        ("content_type", "x" * 257),
        ("metadata", [["k", "v"]]),
        ("metadata", {"k": 1}),
        ("metadata", {"": "v"}),
        ("metadata", {"k" * 129: "v"}),
        ("metadata", {"k": "v" * 2049}),
        ("metadata", {str(n): "" for n in range(65)}),
        ("if_absent", 1),
        ("if_absent", "true"),
        ("if_match", ""),
        ("if_match", "x" * 257),
        ("recheck", -1),
        ("recheck", 1001),
        ("recheck", "1"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_nothing_is_coerced_and_everything_is_bounded(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        initiate(**{field: value})
    assert caught.value.errors()[0]["loc"][0] == field


@pytest.mark.parametrize("field", ["size", "file_hash", "part_size", "parts"])
def test_what_must_be_there(field: str) -> None:
    with pytest.raises(ValidationError):
        InitiateRequest.model_validate({name: value for name, value in INITIATE.items() if name != field})


@pytest.mark.parametrize("body", [None, [], "x", 1, [INITIATE]])
def test_a_request_is_an_object(body: object) -> None:
    with pytest.raises(ValidationError):
        InitiateRequest.model_validate(body)


def test_negative_and_large_sizes_are_the_use_case_s_to_refuse() -> None:
    assert initiate(size=-1).size == -1
    assert initiate(size=MAX_SIZE).size == MAX_SIZE


def test_a_name_is_given_once() -> None:
    for wire in ({"name": None}, {"name": "a", "name_b64": "YQ=="}):
        with pytest.raises(NameProblem):
            initiate(**wire).parsed_name()


@pytest.mark.parametrize("message", UPLOAD_ID_ONLY)
@pytest.mark.parametrize("upload_id", ["", "x" * 8193, 1, None])
def test_upload_ids_are_bounded(message: type[Message], upload_id: object) -> None:
    with pytest.raises(ValidationError):
        message.model_validate({"upload_id": upload_id})


@pytest.mark.parametrize("numbers", [[], [1] * 10_001, ["1"], [1.0], [True], 1, [2**64]])
def test_part_numbers_are_bounded(numbers: object) -> None:
    with pytest.raises(ValidationError):
        SignRequest.model_validate({"upload_id": "u", "part_numbers": numbers})


@pytest.mark.parametrize("items", [[], [{}] * (MAX_ITEMS + 1), [1], {}, None])
def test_batches_are_bounded(items: object) -> None:
    with pytest.raises(ValidationError):
        BatchRequest.model_validate({"items": items})


def test_a_bad_item_spoils_only_itself() -> None:
    assert len(BatchRequest.model_validate({"items": [{"initiate": 1}, {"complete": {"upload_id": "u"}}]}).items) == 2


def test_requests_are_read_from_json_text_the_same_way() -> None:
    text = json.dumps({**INITIATE, "new": 1})
    assert InitiateRequest.model_validate_json(text) == initiate()
    for bad in (text.replace(" 1,", " 1.0,", 1), text.replace('"a"', '"\\ud800"'), text[:-1], "[" * 10_000):
        with pytest.raises(ValidationError):
            InitiateRequest.model_validate_json(bad)


def signed_part() -> SignedPart:
    return SignedPart(
        part_number=1,
        method="PUT",
        url="http://s/b/k",
        headers={"content-length": "1"},
        offset=0,
        length=1,
        expires_at=NOW,
        expires_in=900,
    )


def test_answers_come_back_as_they_were_sent() -> None:
    answers: list[Exists | Upload | Copying] = [
        Exists(file=File(name="a", size=1, file_hash=HASH, version="v")),
        Upload(
            upload_id="u",
            expires_at=NOW,
            expires_in=9,
            commit="put",
            parts=[signed_part()],
            uploaded=[],
            next_part_number=2,
        ),
        Copying(upload_id="u", retry_after=0.2),
    ]
    adapter: TypeAdapter[Exists | Upload | Copying] = TypeAdapter(InitiateAnswer)
    for answer in answers:
        wire = answer.to_wire()
        again = adapter.validate_python(wire)
        assert type(again) is type(answer)
        assert again.to_wire() == wire


def test_a_complete_has_an_end_or_copies() -> None:
    adapter: TypeAdapter[CompleteAnswer | Copying] = TypeAdapter(CompleteOutcome)
    for answer in (CompleteAnswer(status="superseded"), Copying(upload_id="u", retry_after=1)):
        assert adapter.validate_python(answer.to_wire()) == answer
    for bad in ({"retry_after": -1}, {"retry_after": "1"}, {"upload_id": ""}):
        with pytest.raises(ValidationError):
            adapter.validate_python({"status": "copying", "upload_id": "u", "retry_after": 1} | bad)


def test_an_answer_of_another_kind_is_refused() -> None:
    adapter: TypeAdapter[Exists | Upload | Copying] = TypeAdapter(InitiateAnswer)
    with pytest.raises(ValidationError):
        adapter.validate_python({"status": "no such", "upload_id": "u", "retry_after": 1})
    with pytest.raises(ValidationError):
        CompleteAnswer.model_validate({"status": "done"})


def test_times_are_rfc_3339_in_utc() -> None:
    east = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert File(name="a", size=1, modified=east).to_wire()["modified"] == "2026-01-02T03:04:05Z"
    assert File.model_validate({"name": "a", "size": 1, "modified": "2026-01-02T03:04:05Z"}).modified == NOW.replace(
        microsecond=0
    )


def test_what_says_nothing_is_left_out_but_the_end_of_a_list() -> None:
    assert File(name="a", size=0).to_wire() == {"name": "a", "size": 0}
    assert ListAnswer(files=[]).to_wire()["cursor"] is None


def test_messages_are_values() -> None:
    with pytest.raises(ValidationError):
        setattr(initiate(), "size", 2)  # noqa: B010 - the assignment itself is a type error


def test_the_part_rule_of_a_bucket() -> None:
    limits = PartLimitAnswer(
        hash_algorithm="sha256",
        part_size=8 * MIB,
        max_parts=10_000,
        max_object_size=1,
        max_signed_parts=1,
        put_max_size=0,
        instant_min_size=0,
        requires_md5=False,
    )
    assert limits.rule.part_size_for(80_000 * MIB + 1) == 16 * MIB
