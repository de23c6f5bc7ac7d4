"""What is refused has its documented code, and changes nothing in the bucket."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from putgate_api.upload_id import Sealer, UploadKeys, UploadToken, parse_upload_keys
from putgate_protocol.digests import FileHash
from putgate_protocol.names import Name
from putgate_protocol.problems import Problem
from putgate_storage.s3.driver import S3Store
from tests.api.calls import Calls, declaration
from tests.api.state import state_of
from tests.servers.api import ApiProcess

MIB = 1024 * 1024
LATE = ("auth_sign", "upload_status", "complete_multipart_upload", "abort_multipart_upload")


def late_body(call: str, upload_id: str) -> dict[str, Any]:
    return {"upload_id": upload_id} | ({"part_numbers": [1]} if call == "auth_sign" else {})


BAD_NAMES = {
    "name_invalid": ["", "/a", "a/", "a//b", ".", "a/../b", "a/.", "./a"],
    "name_reserved": [".putgate", "a/.putgate/b", ".putgate/v1/bucket.json", "a.versions", "x/b.versions/c"],
    "name_too_long": ["x" * 256, "x" * 5000, "/".join(["y" * 200] * 6), "%" * 86],
}


@pytest.mark.parametrize(("code", "name"), [(code, name) for code, names in BAD_NAMES.items() for name in names])
async def test_each_violation_of_the_name_rules_has_its_code(
    calls: Calls, shared_api: ApiProcess, store: S3Store, code: str, name: str
) -> None:
    before = await state_of(store, shared_api.prefix)
    body = declaration("x", b"data") | {"name": name}
    status, problem = await calls.post("initiate_multipart_upload", body)
    assert (status, problem["code"]) == (400, code)
    status, answer = await calls.post("batch", {"items": [{"initiate": body}]})
    assert answer["results"][0]["body"]["code"] == code
    if name:
        for method in ("GET", "HEAD", "DELETE"):
            status, headers, _ = await calls.file(method, name)
            assert (status, headers["X-Putgate-Code"]) == (400, code), method
    assert await state_of(store, shared_api.prefix) == before


async def test_what_seaweedfs_keeps_for_itself_is_refused_where_the_bucket_has_no_prefix(
    http: Any, api: ApiProcess
) -> None:
    api.settings["storage"]["prefix"] = ""
    api.restart()
    calls = Calls(http, api.url, api.token)
    for name in (".uploads/x", ".uploads/x/y", "a/b.versions/c"):
        status, problem = await calls.initiate(name, b"data")
        assert (status, problem["code"]) == (400, "name_reserved"), name
        for method in ("GET", "DELETE"):
            assert (await calls.file(method, name))[0] == 400
    assert (await calls.list(prefix=".uploads/"))[1]["code"] == "name_reserved"


async def test_invalid_utf8_needs_name_b64(calls: Calls) -> None:
    for name in ({"name": "x", "name_b64": "eA=="}, {}, {"name_b64": "***"}, {"name": None}):
        body = {key: value for key, value in declaration("x", b"d").items() if key != "name"} | name
        status, problem = await calls.post("initiate_multipart_upload", body)
        assert (status, problem["code"]) == (400, "name_invalid")


DATA = b"some bytes"
BAD_DECLARATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "negative size": ("size_invalid", {"size": -1}),
    "absurd size": ("too_large", {"size": 2**53 - 1}),
    "more than an integer": ("request_invalid", {"size": 2**70}),
    "size as text": ("request_invalid", {"size": "10"}),
    "size as a fraction": ("request_invalid", {"size": 10.5}),
    "no size": ("request_invalid", {"size": None}),
    "another part size": ("part_size_mismatch", {"part_size": 5 * MIB}),
    "too many parts": ("parts_mismatch", {"parts": ["0" * 64] * 2}),
    "no parts": ("parts_mismatch", {"parts": []}),
    "too long a list": ("request_invalid", {"parts": ["0" * 64] * 10_001}),
    "another part": ("hash_mismatch", {"parts": ["0" * 64]}),
    "another file": ("hash_mismatch", {"file_hash": "0" * 64}),
    "no hex": ("request_invalid", {"file_hash": "Z" * 64}),
    "upper-case hex": ("request_invalid", {"file_hash": "A" * 64}),
    "short hash": ("request_invalid", {"file_hash": "00"}),
    "MD5 list too long": ("parts_mismatch", {"md5": ["x" * 24] * 2}),
    "our own metadata": ("metadata_invalid", {"metadata": {"putgate-hash": "x"}}),
    "metadata key": ("metadata_invalid", {"metadata": {"Key With Space": "x"}}),
    "metadata value": ("metadata_invalid", {"metadata": {"key": "new\nline"}}),
    "metadata size": ("metadata_invalid", {"metadata": {"key": "x" * 1025}}),
    "content type": ("content_type_refused", {"content_type": "text/plain\r\nx-amz-acl: public-read"}),
    "content type with a line break": ("content_type_refused", {"content_type": "text/plain;\r\nx=a:b"}),
    "content type with a tab": ("content_type_refused", {"content_type": "text/plain;\tx=a"}),
    "metadata with a run of spaces": ("metadata_invalid", {"metadata": {"key": "a  b"}}),
    "both preconditions": ("request_invalid", {"if_absent": True, "if_match": "x"}),
    "recheck": ("request_invalid", {"recheck": -1}),
}


@pytest.mark.parametrize("case", BAD_DECLARATIONS)
async def test_a_bad_declaration_has_its_code_and_changes_nothing(
    calls: Calls, shared_api: ApiProcess, store: S3Store, case: str
) -> None:
    code, change = BAD_DECLARATIONS[case]
    before = await state_of(store, shared_api.prefix)
    body = declaration("file", DATA) | change
    status, problem = await calls.post("initiate_multipart_upload", body)
    assert problem["code"] == code, problem
    assert status in {400, 409, 413}
    _, answer = await calls.post("batch", {"items": [{"initiate": body}]})
    seen = answer["results"][0]["body"]["code"] if "results" in answer else answer["code"]
    assert seen == code
    assert await state_of(store, shared_api.prefix) == before


async def test_bodies_that_cannot_be_read(calls: Calls, shared_api: ApiProcess, store: S3Store, http: Any) -> None:
    before = await state_of(store, shared_api.prefix)
    for call in ("initiate_multipart_upload", "batch", *LATE):
        for body, status, code in (
            (b"{", 400, "json_invalid"),
            (b"", 400, "json_invalid"),
            (b"[]", 400, "request_invalid"),
            (b'{"name": "\\ud800"}', 400, "json_invalid"),
            (b'{"x": "' + b"y" * (4 * MIB) + b'"}', 413, "body_too_large"),
        ):
            async with http.post(
                f"{shared_api.url}/object/{call}", data=io.BytesIO(body), headers=calls.headers
            ) as answer:
                assert answer.content_type == "application/problem+json"
                assert (answer.status, (await answer.json(content_type=None))["code"]) == (status, code), (
                    call,
                    body[:20],
                )
    for path in ("/", "/object/unknown", "/files/"):
        async with http.get(f"{shared_api.url}{path}", headers=calls.headers) as answer:
            assert answer.status in {400, 404}
            assert (await answer.json(content_type=None))["code"] in {"not_found", "name_invalid"}
    assert await state_of(store, shared_api.prefix) == before


async def test_batches_that_are_too_large_or_malformed(calls: Calls) -> None:
    item = {"initiate": declaration("x", b"d")}
    assert (await calls.post("batch", {"items": []}))[1]["code"] == "request_invalid"
    assert (await calls.post("batch", {"items": [{}] * 1001}))[1]["code"] == "request_invalid"
    status, answer = await calls.post("batch", {"items": [{}, {"other": {}}, {"initiate": 5}, item, item]})
    assert status == 200
    assert [r["status"] for r in answer["results"]] == [400, 400, 400, 200, 409]
    assert answer["results"][4]["body"]["code"] == "name_conflict"
    complete = {"complete": {"upload_id": answer["results"][3]["body"]["upload_id"]}}
    _, answer = await calls.post("batch", {"items": [complete, complete, item]})
    assert [r["body"].get("code") for r in answer["results"]] == ["upload_gone", "name_conflict", "name_conflict"]
    many = {"initiate": {"parts": ["0" * 64] * 5001}}
    assert (await calls.post("batch", {"items": [many, many]}))[1]["code"] == "request_invalid"


async def test_upload_ids_that_were_not_made_here(calls: Calls, shared_api: ApiProcess, store: S3Store) -> None:
    data = os.urandom(8 * MIB + 1)
    _, answer = await calls.initiate("big", data)
    good = answer["upload_id"]
    before = await state_of(store, shared_api.prefix)
    raw = base64.urlsafe_b64decode(good + "=" * (-len(good) % 4))
    flipped = [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in (0, 1, 2, 10, len(raw) // 2, len(raw) - 1)]
    forged = [base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in flipped]
    for bad in (*forged, good[:-2], good[:20], "x", "é" * 20, good + "AAAA", "A" * 8000):
        for call in LATE:
            status, problem = await calls.post(call, late_body(call, bad))
            assert (status, problem["code"]) == (400, "upload_id_invalid"), (call, bad[:30])
    assert await state_of(store, shared_api.prefix) == before


async def test_expired_foreign_and_wrongly_keyed_upload_ids(
    calls: Calls, shared_api: ApiProcess, store: S3Store
) -> None:
    data = os.urandom(8 * MIB + 1)
    _, answer = await calls.initiate("big", data)
    before = await state_of(store, shared_api.prefix)
    keys = parse_upload_keys((shared_api.folder / "upload-keys").read_text())
    real = Sealer(lambda: keys)
    bucket_id, owner, *_ = real.open("upload", answer["upload_id"], Problem("upload_id_invalid", "not ours"))
    token = UploadToken(
        bucket_id=bucket_id,
        owner=owner,
        name=Name(b"big"),
        commit="complete",
        nonce="0" * 32,
        file_hash=FileHash.of([]),
        size=len(data),
        part_size=8 * MIB,
        expires=datetime.now(UTC) + timedelta(hours=1),
    )
    other_keys = UploadKeys(signing="k1", accepted={"k1": b"x" * 32})
    for sealer, changed, code in (
        (real, replace(token, expires=datetime.now(UTC) - timedelta(seconds=1)), "upload_expired"),
        (real, replace(token, bucket_id="f" * 32), "upload_id_invalid"),
        (real, replace(token, owner="f" * 64), "forbidden"),
        (Sealer(lambda: other_keys), token, "upload_id_invalid"),
    ):
        for call in LATE:
            status, problem = await calls.post(call, late_body(call, sealer.seal_upload(changed)))
            assert problem["code"] == code, (call, status)
    cursor = real.seal("cursor", [bucket_id, owner, "", None, "", None])
    status, problem = await calls.post("upload_status", {"upload_id": cursor})
    assert problem["code"] == "upload_id_invalid"
    assert await state_of(store, shared_api.prefix) == before


@pytest.mark.parametrize("numbers", [[0], [-1], [3], [1, 1], list(range(1, 1002))])
async def test_part_numbers_outside_the_plan(calls: Calls, numbers: list[int]) -> None:
    _, answer = await calls.initiate("big", os.urandom(8 * MIB + 1))
    status, problem = await calls.post("auth_sign", {"upload_id": answer["upload_id"], "part_numbers": numbers})
    assert (status, problem["code"]) == (400, "part_number_invalid")
    small = (await calls.initiate("small", b"x"))[1]
    status, problem = await calls.post("auth_sign", {"upload_id": small["upload_id"], "part_numbers": [1]})
    assert (status, problem["code"]) == (400, "part_number_invalid")


async def test_numbers_too_large_for_any_integer_spoil_only_their_item(calls: Calls, http: Any) -> None:
    body = b'{"items":[{"initiate":{"size":1' + b"0" * 400 + b"}},{}]}"
    async with http.post(f"{calls.url}/object/batch", data=body, headers=calls.headers) as answer:
        assert answer.status == 200
        assert [r["status"] for r in (await answer.json())["results"]] == [400, 400]


async def test_a_body_that_is_not_what_it_says_is_refused(calls: Calls, http: Any) -> None:
    headers = calls.headers | {"Content-Encoding": "gzip"}
    async with http.post(f"{calls.url}/object/batch", data=b"no gzip", headers=headers) as answer:
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (400, "request_invalid")


async def test_a_body_is_taken_as_it_is_only(calls: Calls, http: Any) -> None:
    body = json.dumps({"items": [{"initiate": declaration("x", b"x")}]}).encode()
    for encoding, sent, status in (("gzip", gzip.compress(body), 400), ("gzip", body, 400), ("identity", body, 200)):
        headers = calls.headers | {"Content-Encoding": encoding}
        async with http.post(f"{calls.url}/object/batch", data=sent, headers=headers) as answer:
            assert answer.status == status, encoding
            if status == 400:
                problem = await answer.json(content_type=None)
                assert problem["code"] == "request_invalid"
                assert "Content-Encoding" in problem["detail"]


@pytest.mark.parametrize("content_type", ["text/charset", "text/html; charset=utf-8", 'a/b; x="y; z"'])
async def test_any_content_type_that_was_declared_is_shown(calls: Calls, content_type: str) -> None:
    name = f"types/{content_type.encode().hex()}"
    await calls.upload(name, b"x", content_type=content_type)
    status, headers, _ = await calls.file("HEAD", name)
    assert (status, headers["Content-Type"]) == (200, content_type)


@pytest.mark.parametrize("prefix", ["/", "a//", "../", "a/./b", ".putgate/", "x/.putgate/v1"])
async def test_prefixes_of_no_name_are_refused(calls: Calls, prefix: str) -> None:
    status, problem = await calls.list(prefix=prefix)
    assert (status, problem["code"]) in {(400, "name_invalid"), (400, "name_reserved")}


async def test_cursors_belong_to_their_question(calls: Calls) -> None:
    for name in ("a/1", "a/2", "b/1"):
        await calls.upload(name, b"x")
    _, page = await calls.list(limit="1", prefix="a/")
    assert page["cursor"] is not None
    assert (await calls.list(limit="1", prefix="b/", cursor=page["cursor"]))[1]["code"] == "cursor_invalid"
    assert (await calls.list(limit="1", cursor="nonsense"))[1]["code"] == "cursor_invalid"
    for bad in ("0", "1001", "-1", "x", "１", "9" * 5000):
        assert (await calls.list(limit=bad))[1]["code"] == "request_invalid"
    assert (await calls.list(delimiter="a"))[1]["code"] == "request_invalid"
    _, rest = await calls.list(limit="1", prefix="a/", cursor=page["cursor"])
    assert [file["name"] for file in page["files"] + rest["files"]] == ["a/1", "a/2"]
