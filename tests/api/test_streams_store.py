"""Streams on SeaweedFS, over HTTP, through two API processes that know nothing of each other."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from putgate_protocol.digests import FileHash, PartHash
from putgate_storage.s3.driver import S3Store
from tests.api.calls import Calls
from tests.api.state import state_of
from tests.servers.api import ApiProcess
from tests.servers.seaweedfs import SeaweedFS

pytestmark = pytest.mark.slow

PART = 8 * 1024 * 1024


@pytest.fixture
def second(api: ApiProcess, tmp_path: Path, seaweedfs: SeaweedFS) -> Iterator[ApiProcess]:
    """Another process of the same bucket, with the same tokens and keys."""
    process = ApiProcess(tmp_path / "second", seaweedfs, prefix=api.prefix)
    process.token, process.tokens = api.token, api.tokens
    process.write_tokens()
    (process.folder / "upload-keys").write_text((api.folder / "upload-keys").read_text())
    process.start()
    yield process
    process.kill()


def declared(number: int, data: bytes) -> dict[str, Any]:
    short = {} if len(data) == PART else {"length": len(data)}
    return {"part_number": number, "sha256": str(PartHash.of(data)), **short}


def end_of(stream: Mapping[str, Any], contents: Sequence[bytes]) -> dict[str, Any]:
    return {
        "upload_id": stream["upload_id"],
        "size": sum(map(len, contents)),
        "file_hash": str(FileHash.of(map(PartHash.of, contents))),
    }


async def begun(calls: Calls, name: str, **more: Any) -> dict[str, Any]:
    status, stream = await calls.post("initiate_multipart_upload", {"name": name, "part_size": PART, **more})
    assert status == 200, stream
    assert (stream["commit"], stream["parts"], stream["next_part_number"]) == ("complete", [], 1)
    return stream


async def test_a_stream_goes_through_whichever_process_answers(
    api: ApiProcess, second: ApiProcess, http: aiohttp.ClientSession, store: S3Store
) -> None:
    one, two = (Calls(http, process.url, api.token) for process in (api, second))
    name = f"{secrets.token_hex(4)}/x"
    contents = [os.urandom(PART), os.urandom(PART), os.urandom(77)]
    stream = await begun(one, name, metadata={"made": "here"})
    for number, data in enumerate(contents, 1):
        calls = (two, one)[number % 2]
        status, page = await calls.post(
            "auth_sign", {"upload_id": stream["upload_id"], "parts": [declared(number, data)]}
        )
        assert status == 200, page
        [part] = page["parts"]
        assert (part["offset"], part["length"]) == ((number - 1) * PART, len(data))
        assert await calls.send(part, bytes(len(data))) == 400
        assert await calls.send(part, data) == 200
    ends = await asyncio.gather(
        *(calls.post("complete_multipart_upload", end_of(stream, contents)) for calls in (one, two) * 2)
    )
    assert {status for status, _ in ends} <= {200, 409}
    assert 200 in {status for status, _ in ends}
    assert {body["code"] for status, body in ends if status == 409} <= {"upload_busy"}
    assert await two.download(name) == b"".join(contents)
    _, headers, _ = await two.file("HEAD", name)
    assert headers["X-Putgate-File-Hash"] == end_of(stream, contents)["file_hash"]
    assert headers["X-Putgate-Part-Size"] == str(PART)
    assert (await state_of(store, api.prefix)).uploads == ()


async def test_declarations_that_race_leave_one_digest_per_part(
    api: ApiProcess, second: ApiProcess, http: aiohttp.ClientSession
) -> None:
    one, two = (Calls(http, process.url, api.token) for process in (api, second))
    name = f"{secrets.token_hex(4)}/x"
    numbers = range(1, 5)
    contents = [[os.urandom(PART) for _ in numbers] for _ in range(4)]
    stream = await begun(one, name)

    async def declare(calls: Calls, number: int, data: bytes) -> tuple[int, bytes, dict[str, Any]]:
        while True:
            request = {"upload_id": stream["upload_id"], "parts": [declared(number, data)]}
            status, answer = await calls.post("auth_sign", request)
            if status != 503:
                return status, data, answer
            await asyncio.sleep(answer["retry_after"])

    won = []
    for number in numbers:
        ends = await asyncio.gather(
            *(declare(calls, number, data[number - 1]) for calls, data in zip((one, two) * 2, contents, strict=True))
        )
        assert sorted(status for status, _, _ in ends) == [200, 409, 409, 409]
        assert {answer["code"] for status, _, answer in ends if status == 409} == {"part_redeclared"}
        [(data, page)] = [(data, answer) for status, data, answer in ends if status == 200]
        assert await one.send(page["parts"][0], data) == 200
        won.append(data)
    status, done = await two.post("complete_multipart_upload", end_of(stream, won))
    assert (status, done["status"]) == (200, "complete"), done
    assert await one.download(name) == b"".join(won)


async def test_parts_that_race_are_all_declared(
    api: ApiProcess, second: ApiProcess, http: aiohttp.ClientSession
) -> None:
    one, two = (Calls(http, process.url, api.token) for process in (api, second))
    stream = await begun(one, f"{secrets.token_hex(4)}/x")
    digests = [secrets.token_hex(32) for _ in range(40)]

    async def declare(calls: Calls, number: int) -> None:
        part = {"part_number": number, "sha256": digests[number - 1]}
        for _ in range(100):
            status, answer = await calls.post("auth_sign", {"upload_id": stream["upload_id"], "parts": [part]})
            if status == 200:
                return
            assert status == 503, answer
            await asyncio.sleep(answer["retry_after"])
        raise AssertionError(f"part {number} was never declared")

    async with asyncio.TaskGroup() as group:
        for number in range(1, 41):
            group.create_task(declare((one, two)[number % 2], number))
    whole = [{"part_number": number, "sha256": digest} for number, digest in enumerate(digests, 1)]
    status, page = await one.post("auth_sign", {"upload_id": stream["upload_id"], "parts": whole})
    assert (status, len(page["parts"])) == (200, 40)
    for part in whole:
        part["sha256"] = "0" * 64
        status, answer = await two.post("auth_sign", {"upload_id": stream["upload_id"], "parts": [part]})
        assert (status, answer["code"]) == (409, "part_redeclared")


async def test_half_a_declaration_is_no_stream(calls: Calls) -> None:
    for fields in ({"size": 3}, {"file_hash": "0" * 64}, {"parts": []}, {"size": None}):
        body = {"name": "x", "part_size": PART, **fields}
        status, answer = await calls.post("initiate_multipart_upload", body)
        assert (status, answer["code"]) == (400, "request_invalid"), fields
    stream = await begun(calls, f"{secrets.token_hex(4)}/x")
    for body in ({}, {"part_numbers": [1]}, {"parts": []}, {"parts": [{"part_number": 1}]}):
        status, answer = await calls.post("auth_sign", {"upload_id": stream["upload_id"], **body})
        assert (status, answer["code"]) == (400, "request_invalid"), body
    status, answer = await calls.post("complete_multipart_upload", {"upload_id": stream["upload_id"]})
    assert (status, answer["code"]) == (400, "request_invalid")
    status, answer = await calls.post("abort_multipart_upload", {"upload_id": stream["upload_id"]})
    assert (status, answer["status"]) == (200, "aborted")
