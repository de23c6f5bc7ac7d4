"""Content that the store holds already is not sent again: under another name, and where files have changed.

Client, API and store are real; a proxy before the store counts what clients send.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from putgate import BytesSource, Client, Job, Name, StoreRefused, Uploaded
from putgate.upload.completing import SPARE
from putgate_api.uploads.copying import PER_CALL
from putgate_protocol.digests import FileHash, PartHash
from tests.api.calls import Calls
from tests.client.stack import MIB, Stack, a_stack, refusal, the_servers  # noqa: F401
from tests.servers.api import ApiProcess
from tests.servers.proxy import StoreProxy
from tests.servers.proxy_calls import Call, api_kind, kind
from tests.servers.proxy_faults import Answer
from tests.servers.seaweedfs import SeaweedFS

PART = 8 * MIB
SMALL_PART = 5 * MIB
"""The least that the store takes: many parts of it are still not many bytes."""


@pytest.fixture(scope="module", name="bucket_servers")
def the_servers_of_a_bucket(
    tmp_path_factory: pytest.TempPathFactory, seaweedfs: SeaweedFS
) -> Iterator[tuple[ApiProcess, StoreProxy, StoreProxy]]:
    with StoreProxy(seaweedfs.endpoint) as store:
        prefix = f"t-{secrets.token_hex(6)}/"
        api = ApiProcess(tmp_path_factory.mktemp("api"), seaweedfs, prefix=prefix, endpoint=store.url)
        api.settings |= {"upload": {"part_size": "5Mi"}, "instant_upload": {"scope": "Bucket"}}
        api.start_probed()
        try:
            with StoreProxy(api.url, classify=api_kind) as calls:
                yield api, store, calls
        finally:
            api.kill()


@pytest.fixture(name="shared")
def a_stack_of_a_bucket(bucket_servers: tuple[ApiProcess, StoreProxy, StoreProxy], tmp_path: Path) -> Iterator[Stack]:
    """Everybody's content may be found here, and parts are small."""
    api, store, calls = bucket_servers
    for proxy in (store, calls):
        proxy.reset()
    yield Stack(api=api, store=store, calls=calls, folder=tmp_path)
    for proxy in (store, calls):
        proxy.heal()


async def same(client: Client, stack: Stack, name: str, path: Path) -> None:
    """What is stored is the file, and nothing is left open."""
    target = stack.folder / "out"
    await client.download(stack.prefix + name, target)
    assert target.read_bytes() == path.read_bytes()
    assert stack.open_uploads() == []


async def stored(stack: Stack, name: str, path: Path) -> None:
    """Have the file under a name, and begin to count."""
    async with stack.client() as client:
        await client.upload(path, stack.prefix + name)
    stack.store.reset()
    stack.calls.reset()


@pytest.mark.slow
async def test_an_owners_duplicate_of_a_large_file_sends_nothing(stack: Stack) -> None:
    path = stack.file(19 * PART + 1000)
    await stored(stack, "first", path)
    async with stack.client() as client:
        again = await client.upload(path, stack.prefix + "second")
        assert (again.how, again.sent_bytes, stack.store.put_body_bytes) == ("exists", 0, 0)
        assert stack.store.counts["UploadPartCopy"] == 20
        assert again.file.version is not None
        await same(client, stack, "second", path)


@pytest.mark.parametrize("odd", ["with space/a+b %41 &?#", "ünï/日本", "quote'\"<>"])
async def test_a_source_of_any_name_is_copied(stack: Stack, odd: str) -> None:
    path = stack.file(300 * 1024)
    await stored(stack, odd, path)
    async with stack.client() as client:
        assert (await client.upload(path, stack.prefix + "second")).how == "exists"
        assert stack.store.put_body_bytes == 0
        await same(client, stack, "second", path)


async def test_duplicates_among_many_small_files_send_nothing(stack: Stack) -> None:
    contents = [os.urandom(300 * 1024) for _ in range(12)]

    async def jobs(folder: str) -> AsyncIterator[Job]:
        for at, data in enumerate(contents):
            name = Name(f"{stack.prefix}{folder}/{at}".encode())
            yield Job(name=name, source=BytesSource(data))

    async with stack.client() as client:
        first = [outcome async for outcome in client.engine().upload_many(jobs("first"))]
        assert {outcome.how for outcome in first if isinstance(outcome, Uploaded)} == {"put"}
        stack.store.reset()
        again = [outcome async for outcome in client.engine().upload_many(jobs("second"))]
        assert [outcome.how for outcome in again if isinstance(outcome, Uploaded)] == ["exists"] * 12
        assert stack.store.put_body_bytes == 0
        await client.download(f"{stack.prefix}second/7", stack.folder / "out")
    assert (stack.folder / "out").read_bytes() == contents[7]
    assert stack.open_uploads() == []


async def test_the_command_says_that_nothing_was_sent(stack: Stack) -> None:
    path = stack.file(PART + 1)
    await stored(stack, "first", path)
    done = stack.run("upload", "--json", path, "--to", stack.prefix + "second")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["status"], told["sent_bytes"], stack.store.put_body_bytes) == ("exists", 0, 0)


def without_chance(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs from any call to the next."""
    kept = {key: value for key, value in answer.items() if key not in {"upload_id", "expires_at", "expires_in"}}
    kept["parts"] = [
        {
            **{key: value for key, value in part.items() if key not in {"url", "expires_at", "expires_in"}},
            "headers": {key: value for key, value in part["headers"].items() if key != "x-amz-meta-putgate-upload"},
        }
        for part in answer["parts"]
    ]
    return kept


@pytest.mark.parametrize("which", ["stack", "shared"])
@pytest.mark.parametrize("size", [300 * 1024, 2 * PART + 1])
async def test_to_who_may_not_have_it_known_content_looks_unknown(
    request: pytest.FixtureRequest, http: aiohttp.ClientSession, which: str, size: int
) -> None:
    stack: Stack = request.getfixturevalue(which)
    path = stack.file(size)
    await stored(stack, "first", path)
    token = stack.api.add_token(subject="stranger", verbs=["upload"])
    calls, part_size = Calls(http, stack.api.url, token), PART if which == "stack" else SMALL_PART
    known = _declared(path.read_bytes(), part_size)
    unknown = _declared(os.urandom(size), part_size)
    first, second = stack.prefix + "a", stack.prefix + "b"
    status, answer = await calls.post("initiate_multipart_upload", {"name": first, **known})
    other_status, other = await calls.post("initiate_multipart_upload", {"name": second, **unknown})
    assert status == other_status == 200
    hashes = {"x-amz-checksum-sha256", "x-amz-meta-putgate-hash"}
    for part in (*answer["parts"], *other["parts"]):
        part["headers"] = {key: value for key, value in part["headers"].items() if key not in hashes}
    assert without_chance(answer) == without_chance(other)
    async with Client(stack.calls.url, token=token) as client:
        assert (await client.upload(path, stack.prefix + "third")).sent_bytes == size
    assert stack.store.counts["UploadPartCopy"] == 0


def _declared(data: bytes, part_size: int) -> dict[str, Any]:
    parts = [PartHash.of(data[at : at + part_size]) for at in range(0, len(data), part_size)]
    return {
        "size": len(data),
        "part_size": part_size,
        "file_hash": str(FileHash.of(parts)),
        "parts": [str(part) for part in parts],
    }


async def test_in_a_shared_bucket_who_may_download_it_sends_nothing(shared: Stack) -> None:
    path = shared.file(3 * SMALL_PART)
    await stored(shared, "common/first", path)
    token = shared.api.add_token(
        subject="reader", verbs=["upload", "download"], prefixes=[f"{shared.prefix}common/", f"{shared.prefix}mine/"]
    )
    async with Client(shared.calls.url, token=token) as client:
        again = await client.upload(path, shared.prefix + "mine/second")
        assert (again.how, shared.store.put_body_bytes) == ("exists", 0)
        await same(client, shared, "mine/second", path)


def change(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.mark.slow
async def test_of_a_changed_file_only_the_changed_part_is_sent(shared: Stack) -> None:
    path = shared.file(40 * SMALL_PART)
    await stored(shared, "x", path)
    change(path, 20 * SMALL_PART + 77)
    async with shared.client() as client:
        again = await client.upload(path, shared.prefix + "x")
        assert (again.how, again.sent_bytes) == ("complete", SMALL_PART)
        assert shared.store.put_body_bytes == SMALL_PART
        await same(client, shared, "x", path)


@pytest.mark.slow
async def test_of_a_grown_file_only_its_end_is_sent(shared: Stack) -> None:
    path = shared.file(40 * SMALL_PART - 1000)
    await stored(shared, "x", path)
    with path.open("ab") as file:
        file.write(os.urandom(40 * SMALL_PART // 100))
    async with shared.client() as client:
        again = await client.upload(path, shared.prefix + "x")
        assert again.sent_bytes == shared.store.put_body_bytes <= 2 * SMALL_PART
        await same(client, shared, "x", path)


@pytest.mark.slow
async def test_many_parts_are_copied_with_several_calls(shared: Stack) -> None:
    path = shared.file((PER_CALL + 3) * SMALL_PART)
    await stored(shared, "first", path)
    heard: list[int] = []
    async with shared.client() as client:
        again = await client.upload(path, shared.prefix + "second", on_bytes=lambda _, count: heard.append(count))
        assert (again.how, again.sent_bytes, shared.store.put_body_bytes) == ("exists", 0, 0)
        # Copied bytes are not sent bytes.
        assert heard == []
        assert shared.calls.counts["complete_multipart_upload"] >= 1
        await same(client, shared, "second", path)
        shared.store.reset()
        change(path, 30 * SMALL_PART)
        changed = await client.upload(path, shared.prefix + "second")
        assert (changed.how, changed.sent_bytes) == ("complete", SMALL_PART)
        assert shared.store.put_body_bytes == SMALL_PART
        await same(client, shared, "second", path)


@pytest.mark.parametrize("how", ["overwritten", "deleted"])
@pytest.mark.parametrize("size", [300 * 1024, 3 * PART])
async def test_a_source_that_goes_away_just_before_it_is_copied(stack: Stack, how: str, size: int) -> None:
    path = stack.file(size)
    await stored(stack, "first", path)
    key = stack.api.prefix + stack.prefix + "first"

    def spoil(_: Call) -> None:
        behind: Any = stack.api.store.client()
        if how == "deleted":
            behind.delete_object(Bucket=stack.api.store.bucket, Key=key)
        else:
            behind.put_object(Bucket=stack.api.store.bucket, Key=key, Body=os.urandom(size))
        behind.close()

    stack.store.on(kind("UploadPartCopy"), spoil, times=1)
    async with stack.client() as client:
        assert (await client.upload(path, stack.prefix + "second")).sent_bytes == size
        await same(client, stack, "second", path)
        assert stack.store.counts["UploadPartCopy"] >= 1


async def test_another_owner_sends_everything_even_of_what_they_may_read(stack: Stack) -> None:
    path = stack.file(2 * PART)
    await stored(stack, "first", path)
    token = stack.api.add_token(subject="other")
    async with Client(stack.calls.url, token=token) as client:
        assert (await client.upload(path, stack.prefix + "second")).sent_bytes == 2 * PART
        await same(client, stack, "first", path)
        await same(client, stack, "second", path)


COPYING = Answer(
    status=200, body=b'{"status":"copying","upload_id":"none","retry_after":0}', content_type="application/json"
)


async def test_a_copy_that_has_ended_without_a_file_is_declared_again(stack: Stack) -> None:
    path = stack.file(PART + 1)
    stack.calls.rule(kind("initiate_multipart_upload"), COPYING, times=1)
    stack.calls.rule(kind("complete_multipart_upload"), refusal("upload_gone"), times=1)
    async with stack.client() as client:
        assert (await client.upload(path, stack.prefix + "x")).sent_bytes == PART + 1
        await same(client, stack, "x", path)


async def test_a_server_that_copies_for_ever_fails_the_file(stack: Stack) -> None:
    path = stack.file(PART + 1)
    stack.calls.rule(kind("initiate_multipart_upload", "complete_multipart_upload"), COPYING)
    async with stack.client() as client:
        with pytest.raises(StoreRefused):
            await client.upload(path, stack.prefix + "x")
    stack.calls.heal()
    assert stack.calls.counts["complete_multipart_upload"] == 2 + SPARE
