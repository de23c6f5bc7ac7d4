"""A holder of signed requests can store exactly the declared bytes under the declared name, and nothing else."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import Any

import pytest

from putgate_storage.s3.driver import S3Store
from tests.api.calls import Calls
from tests.servers.api import ApiProcess

MIB = 1024 * 1024
PART = 8 * MIB


def extra_headers(api: ApiProcess, victim: str) -> dict[str, Mapping[str, str]]:
    """Headers that nobody signed, each of which would change what is stored, or how."""
    return {
        "copy-source": {"x-amz-copy-source": f"/{api.store.bucket}/{api.prefix}{victim}"},
        "copy-source-range": {
            "x-amz-copy-source": f"/{api.store.bucket}/{api.prefix}{victim}",
            "x-amz-copy-source-range": "bytes=0-9",
        },
        "acl": {"x-amz-acl": "public-read"},
        "grant": {"x-amz-grant-read": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'},
        "tagging": {"x-amz-tagging": "a=b"},
        "meta": {"x-amz-meta-extra": "x"},
        "our meta": {"x-amz-meta-putgate-owner": "f" * 64},
    }


HEADERS = ("copy-source", "copy-source-range", "acl", "grant", "tagging", "meta", "our meta")


@pytest.fixture
async def victim(calls: Calls) -> str:
    name = f"{secrets.token_hex(4)}/victim"
    await calls.upload(name, b"secret of somebody else")
    return name


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.parametrize("size", [1000, PART + 1000])
async def test_an_extra_header_changes_nothing(
    calls: Calls, shared_api: ApiProcess, store: S3Store, victim: str, kind: str, size: int
) -> None:
    extra = extra_headers(shared_api, victim)[kind]
    name, data = f"{secrets.token_hex(4)}/x", os.urandom(size)
    _, answer = await calls.initiate(name, data)
    for part in answer["parts"]:
        body = data[part["offset"] : part["offset"] + part["length"]]
        for attempt in (body, b""):
            status = await calls.send(part, attempt, extra=extra) if attempt else 400
            assert status == 200 or 400 <= status < 500
    head = await store.head(shared_api.prefix + name)
    if head is not None:
        # A store may ignore what nobody signed; then exactly the declared bytes and metadata are there.
        assert await calls.download(name) == data
        assert "extra" not in head.metadata
        assert head.metadata["putgate-owner"] != "f" * 64
    assert await calls.download(victim) == b"secret of somebody else"


@pytest.mark.parametrize("size", [1000, PART + 1000])
async def test_other_bytes_or_another_length_are_refused(calls: Calls, size: int) -> None:
    name, data = f"{secrets.token_hex(4)}/x", os.urandom(size)
    _, answer = await calls.initiate(name, data)
    part = answer["parts"][0]
    good = data[: part["length"]]
    flipped = bytes([good[0] ^ 1]) + good[1:]
    assert 400 <= await calls.send(part, flipped) < 500
    for other in (good[:-1], good + b"x"):
        headers = part["headers"] | {"content-length": str(len(other))}
        headers = {key: value for key, value in headers.items() if key.lower() != "content-length"} | {
            "Content-Length": str(len(other))
        }
        assert 400 <= await calls.send({**part, "headers": headers}, other) < 500
    assert (await calls.file("HEAD", name))[0] == 404
    _, again = await calls.initiate(name, data)
    assert again["uploaded"] == []


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD", "POST"])
async def test_another_method_is_refused(calls: Calls, method: str, victim: str) -> None:
    _, answer = await calls.initiate(victim, b"new content")
    status = await calls.send(answer["parts"][0], b"new content", method=method)
    assert 400 <= status < 500
    assert await calls.download(victim) == b"secret of somebody else"


async def test_a_url_of_another_part_or_upload_does_not_fit(calls: Calls) -> None:
    folder, data = secrets.token_hex(4), os.urandom(2 * PART)
    _, one = await calls.initiate(f"{folder}/one", data)
    _, two = await calls.initiate(f"{folder}/two", data[::-1])
    for signed, url in ((one["parts"][0], one["parts"][1]["url"]), (one["parts"][0], two["parts"][0]["url"])):
        assert 400 <= await calls.send({**signed, "url": url}, data[:PART]) < 500
    moved = one["parts"][0]["url"].replace("partNumber=1", "partNumber=2")
    assert 400 <= await calls.send({**one["parts"][0], "url": moved}, data[:PART]) < 500


@pytest.mark.parametrize("end", ["complete", "abort"])
async def test_a_part_replayed_after_the_end_changes_nothing(calls: Calls, end: str) -> None:
    name, data = f"{secrets.token_hex(4)}/x", os.urandom(PART + 5)
    _, answer = await calls.initiate(name, data)
    assert await calls.put_parts(answer, data) == [200, 200]
    status, _ = await calls.post(f"{end}_multipart_upload", {"upload_id": answer["upload_id"]})
    assert status == 200
    for part in answer["parts"]:
        assert await calls.send(part, data[part["offset"] : part["offset"] + part["length"]]) == 404
    if end == "complete":
        assert await calls.download(name) == data
    else:
        assert (await calls.file("HEAD", name))[0] == 404
        status, problem = await calls.post("complete_multipart_upload", {"upload_id": answer["upload_id"]})
        assert (status, problem["code"]) == (404, "upload_gone")
        assert (await calls.post("abort_multipart_upload", {"upload_id": answer["upload_id"]}))[0] == 200


async def test_a_replayed_commit_never_undoes_what_came_after(calls: Calls) -> None:
    name = f"{secrets.token_hex(4)}/x"
    _, first = await calls.initiate(name, b"first")
    assert await calls.put_parts(first, b"first") == [200]
    _, second = await calls.initiate(name, b"second")
    assert await calls.put_parts(second, b"second") == [200]
    assert await calls.put_parts(first, b"first") == [412]
    assert await calls.download(name) == b"second"
    status, problem = await calls.post("complete_multipart_upload", {"upload_id": first["upload_id"]})
    assert (status, problem["code"]) == (404, "upload_gone")


async def test_nobody_can_open_an_upload_under_a_hash_whose_parts_they_cannot_name(calls: Calls) -> None:
    name = f"{secrets.token_hex(4)}/x"
    await calls.upload(name, b"known")
    _, page = await calls.list(prefix=name)
    assert "file_hash" not in page["files"][0]
    status, headers, _ = await calls.file("HEAD", name)
    body: dict[str, Any] = {
        "name": f"{name}2",
        "size": 5,
        "part_size": PART,
        "file_hash": headers["X-Putgate-File-Hash"],
        "parts": ["0" * 64],
    }
    status, problem = await calls.post("initiate_multipart_upload", body)
    assert (status, problem["code"]) == (400, "hash_mismatch")
