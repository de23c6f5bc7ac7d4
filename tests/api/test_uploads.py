"""The ways of a file through the API, on a real store."""

from __future__ import annotations

import os
import secrets
from base64 import b64decode

import pytest

from tests.api.calls import RULE, Calls

MIB = 1024 * 1024


@pytest.mark.parametrize("size", [0, 1, 4096, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 16 * MIB])
async def test_a_file_of_any_size_is_stored_and_found_again(calls: Calls, size: int) -> None:
    data = os.urandom(size)
    name = f"{secrets.token_hex(4)}/a file"
    file = await calls.upload(name, data)
    assert file["size"] == size
    assert file["name"] == name
    assert await calls.download(name) == data
    status, again = await calls.initiate(name, data)
    assert (status, again["status"]) == (200, "exists")
    assert again["file"]["version"] == file["version"]


NAMES = [
    b"a b",
    "ünïcödé/文件".encode(),
    b"+ % # ? & \\ ; = : @ , ! $ ' ( ) * [ ] < > \" ^ ` { | } ~",
    b"line\nfeed\ttab\x7f\x01",
    b"\xff\xfe invalid",
    b"%41%zz",
    b"x" * 255 + b"/" + b"y" * 255,
    ("é" * 127).encode(),
    b"/".join([b"z" * 200] * 4),
    "\ufffe\uffff\u0080".encode(),
    b"a/b/.hidden/...",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_any_name_is_kept_as_it_is(calls: Calls, name: bytes) -> None:
    folder = secrets.token_hex(4)
    name = folder.encode() + b"/" + name
    data = os.urandom(100)
    await calls.upload(name, data)
    assert await calls.download(name) == data
    status, headers, _ = await calls.file("HEAD", name)
    assert status == 200
    assert headers["X-Putgate-Size"] == "100"
    _, listed = await calls.list(prefix=f"{folder}/")
    found = [b64decode(f["name_b64"]) if "name_b64" in f else f["name"].encode() for f in listed["files"]]
    assert found == [name]
    status, _, _ = await calls.file("DELETE", name)
    assert status == 204
    status, _, _ = await calls.file("HEAD", name)
    assert status == 404


async def test_resume_shows_the_parts_held(calls: Calls) -> None:
    data = os.urandom(3 * 8 * MIB + 5)
    _, first = await calls.initiate("big", data)
    assert first["commit"] == "complete"
    assert await calls.send(first["parts"][1], data[8 * MIB : 16 * MIB]) == 200
    _, second = await calls.initiate("big", data)
    assert [part["part_number"] for part in second["uploaded"]] == [2]
    assert [part["part_number"] for part in second["parts"]] == [1, 3, 4]
    status, problem = await calls.post("complete_multipart_upload", {"upload_id": second["upload_id"]})
    assert (status, problem["code"], problem["parts"]) == (409, "parts_missing", [1, 3, 4])
    _, signed = await calls.post("auth_sign", {"upload_id": first["upload_id"], "part_numbers": [1, 4]})
    plan = RULE.plan(len(data))
    for part in signed["parts"] + second["parts"][1:2]:
        slice_ = plan.part(part["part_number"])
        assert await calls.send(part, data[slice_.offset : slice_.offset + slice_.length]) == 200
    for upload_id in (first["upload_id"], second["upload_id"], first["upload_id"]):
        status, done = await calls.post("complete_multipart_upload", {"upload_id": upload_id})
        assert (status, done["status"]) == (200, "complete")
    assert await calls.download("big") == data
