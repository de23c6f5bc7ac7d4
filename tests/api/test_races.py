"""Many callers at once: each name ends with one whole file, and nothing is left open."""

from __future__ import annotations

import asyncio
import os
import secrets

import pytest

from putgate_storage.s3.driver import S3Store
from tests.api.calls import Calls, declaration
from tests.api.state import state_of
from tests.servers.api import ApiProcess

MIB = 1024 * 1024
TWO_PARTS = 8 * MIB + 1000


async def upload_patiently(calls: Calls, name: str, data: bytes) -> None:
    """What any client does: wait where the API says so, begin again where a commit was lost."""
    for recheck in range(20):
        status, answer = await calls.initiate(name, data, recheck=recheck)
        if status == 409:
            await asyncio.sleep(answer["retry_after"])
            continue
        assert status == 200, answer
        if answer["status"] == "exists":
            return
        sent = await calls.put_parts(answer, data)
        if answer["commit"] == "put" and sent != [200]:
            continue
        for _ in range(100):
            status, done = await calls.post("complete_multipart_upload", {"upload_id": answer["upload_id"]})
            if status != 409 or done["code"] != "upload_busy":
                break
            await asyncio.sleep(done["retry_after"])
        if status == 200:
            return
        assert done["code"] in {"upload_gone", "parts_missing"}, done
    raise AssertionError(f"{name} could not be uploaded")


@pytest.mark.parametrize("size", [1000, TWO_PARTS])
async def test_ten_callers_with_one_content_and_one_name(
    calls: Calls, shared_api: ApiProcess, store: S3Store, size: int
) -> None:
    name, data = f"{secrets.token_hex(4)}/x", os.urandom(size)
    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(upload_patiently(calls, name, data))
    assert await calls.download(name) == data
    state = await state_of(store, f"{shared_api.prefix}{name.partition('/')[0]}/")
    assert len(state.keys) == 1
    assert state.uploads == ()


async def test_two_contents_to_one_name_end_as_one_of_them_whole(
    calls: Calls, shared_api: ApiProcess, store: S3Store
) -> None:
    name = f"{secrets.token_hex(4)}/x"
    contents = [os.urandom(size) for size in (1000, 2000, TWO_PARTS, TWO_PARTS + 1)]
    async with asyncio.TaskGroup() as group:
        for data in contents:
            group.create_task(upload_patiently(calls, name, data))
    assert await calls.download(name) in contents
    state = await state_of(store, f"{shared_api.prefix}{name.partition('/')[0]}/")
    assert len(state.keys) == 1
    assert state.uploads == ()


@pytest.mark.slow
async def test_if_absent_holds_in_a_race_of_eight_commits(calls: Calls) -> None:
    for _ in range(5):
        name = f"{secrets.token_hex(4)}/x"
        contents = [os.urandom(100) for _ in range(8)]
        answers = [(await calls.initiate(name, data, if_absent=True))[1] for data in contents]
        sent = await asyncio.gather(
            *(calls.put_parts(answer, data) for answer, data in zip(answers, contents, strict=True))
        )
        assert sorted(status for [status] in sent) == [200] + [412] * 7
        winner = sent.index([200])
        assert await calls.download(name) == contents[winner]
        for at, answer in enumerate(answers):
            status, done = await calls.post("complete_multipart_upload", {"upload_id": answer["upload_id"]})
            assert status == (200 if at == winner else 404), done
        status, problem = await calls.initiate(name, contents[winner - 1], if_absent=True)
        assert (status, problem["code"]) == (412, "precondition_failed")
        status, again = await calls.initiate(name, contents[winner], if_absent=True)
        assert (status, again["status"]) == (200, "exists")


async def test_if_match_holds_in_a_race_of_eight_commits(calls: Calls) -> None:
    name = f"{secrets.token_hex(4)}/x"
    version = (await calls.upload(name, b"first"))["version"]
    contents = [os.urandom(100) for _ in range(8)]
    answers = [(await calls.initiate(name, data, if_match=version))[1] for data in contents]
    sent = await asyncio.gather(
        *(calls.put_parts(answer, data) for answer, data in zip(answers, contents, strict=True))
    )
    assert sorted(status for [status] in sent) == [200] + [412] * 7
    assert await calls.download(name) == contents[sent.index([200])]
    status, problem = await calls.initiate(name, b"other", if_match=version)
    assert (status, problem["code"]) == (412, "precondition_failed")


async def test_multipart_under_a_precondition_is_unsupported_where_completes_race(
    calls: Calls, shared_api: ApiProcess, store: S3Store
) -> None:
    data = os.urandom(TWO_PARTS)
    before = await state_of(store, shared_api.prefix)
    for condition in ({"if_absent": True},):
        status, problem = await calls.initiate(f"{secrets.token_hex(4)}/x", data, **condition)
        assert (status, problem["code"]) == (501, "precondition_unsupported")
    assert await state_of(store, shared_api.prefix) == before
    name = f"{secrets.token_hex(4)}/x"
    version = (await calls.upload(name, b"small"))["version"]
    status, problem = await calls.initiate(name, data, if_match=version)
    assert (status, problem["code"]) == (501, "precondition_unsupported")


async def test_a_batch_looks_once_and_answers_each(calls: Calls) -> None:
    folder = secrets.token_hex(4)
    files = {f"{folder}/{index:03}/x": os.urandom(50) for index in range(100)}
    items = [{"initiate": declaration(name, data)} for name, data in files.items()]
    status, answer = await calls.post("batch", {"items": items})
    assert status == 200
    results = [result["body"] for result in answer["results"]]
    assert {result["commit"] for result in results} == {"put"}
    sent = await asyncio.gather(
        *(calls.put_parts(result, data) for result, data in zip(results, files.values(), strict=True))
    )
    assert sent == [[200]] * 100
    _, again = await calls.post("batch", {"items": items})
    assert {result["body"]["status"] for result in again["results"]} == {"exists"}
    completes = [{"complete": {"upload_id": result["upload_id"]}} for result in results]
    _, confirmed = await calls.post("batch", {"items": completes})
    assert [r["body"]["file"]["size"] for r in confirmed["results"]] == [50] * 100
