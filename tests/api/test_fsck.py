"""`putgate-api fsck` on a real store: what was truncated, overwritten or made by others, behind Putgate's back."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from putgate_api.backend import check_store
from putgate_api.fsck.files import judge
from putgate_api.fsck.finding import Finding, Looked
from putgate_api.fsck.hints import Hints
from putgate_protocol.messages.initiate import Upload
from putgate_protocol.settings.api import ApiSettings
from putgate_storage.errors import Permanent
from putgate_storage.s3.driver import S3Store
from putgate_storage.store import Head
from tests.api.calls import Calls
from tests.api.known_content import index_keys
from tests.api.memory_bucket import PREFIX, Clock, memory_store
from tests.api.memory_bucket import bucket as memory_bucket
from tests.api.memory_streams import DATA as STREAMED
from tests.api.memory_streams import finish_stream, stream_in
from tests.api.state import state_of, store_of
from tests.api.store_bucket import MULTIPART, begin, finish, store_bucket
from tests.api.test_program import run, written
from tests.servers.api import ApiProcess
from tests.servers.proxy import StoreProxy
from tests.servers.proxy_calls import Call
from tests.servers.proxy_faults import Answer, CutAnswer, Fault, FlipAnswerBit
from tests.servers.seaweedfs import SeaweedFS

TWO_PARTS = os.urandom(8 * 1024 * 1024 + 1000)
FILES = {
    "empty": b"",
    "small": b"one PUT",
    "multipart": b"one part of a multipart upload",
    "two-parts": TWO_PARTS,
    "folder/näme %41\n": b"an odd name",
}


@dataclass(slots=True)
class Bucket:
    """A bucket with a file of each kind, the settings of an API for it, and a plain S3 client."""

    api: ApiProcess
    client: Any

    async def fsck(self, *, rehash: bool = False, repair: bool = False) -> tuple[list[Finding], Looked]:
        looked, findings = Looked(), list[Finding]()
        settings = ApiSettings.model_validate(self.api.settings)
        await check_store(settings, looked, findings.append, rehash=rehash, repair=repair)
        assert looked.findings == len(findings)
        return findings, looked

    def shown(self, findings: list[Finding]) -> dict[str, str]:
        """Kinds by name."""
        assert len({found.key for found in findings}) == len(findings)
        return {found.key.removeprefix(self.api.prefix): found.kind for found in findings}

    async def plain(self, *options: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(run, "fsck", "--config", written(self.api), *options)
        return done.returncode, done.stdout, done.stderr

    def put(self, name: str, body: bytes, **options: Any) -> None:
        self.client.put_object(Bucket=self.api.store.bucket, Key=self.api.prefix + name, Body=body, **options)

    def metadata(self, name: str) -> dict[str, str]:
        found = self.client.head_object(Bucket=self.api.store.bucket, Key=self.api.prefix + name)
        metadata: dict[str, str] = found["Metadata"]
        return metadata

    def spoil(self, name: str, body: bytes, **changes: str) -> None:
        """Other bytes under a name, with the metadata that is there."""
        self.put(name, body, Metadata=self.metadata(name) | changes)


@pytest.fixture
async def bucket(
    http: aiohttp.ClientSession, tmp_path: Path, seaweedfs: SeaweedFS, prefix: str, store_proxy: StoreProxy
) -> Bucket:
    api = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix, endpoint=store_proxy.url)
    async with store_of(api) as store:
        served = store_bucket(store, prefix)
        for name, data in FILES.items():
            answer = await begin(served, name, data, recheck=MULTIPART if name == "multipart" else 0)
            if isinstance(answer, Upload):
                await finish(served, Calls(http, "", None), answer, data)
    return Bucket(api=api, client=seaweedfs.client())


SIZE = sum(map(len, FILES.values()))


async def test_a_sound_bucket_is_clean_and_nothing_is_written(bucket: Bucket, store_proxy: StoreProxy) -> None:
    for name in ("foreign", "folder/of/others"):
        bucket.put(name, b"another tool's", Metadata={"their": "own"})
    async with store_of(bucket.api) as store:
        before = await state_of(store, bucket.api.prefix)
        assert await bucket.fsck() == ([], Looked(files=5, bytes=SIZE, foreign=2, sessions=2, hints=1))
        assert not any(call.presigned for call in store_proxy.requests), "no file is read"
        found = await bucket.fsck(rehash=True)
        assert found == ([], Looked(files=5, bytes=SIZE, rehashed=5, foreign=2, sessions=2, hints=1))
        assert len([call for call in store_proxy.requests if of_content(call)]) == 5, "one for each part"
        assert {call.method for call in store_proxy.requests} <= {"GET", "HEAD"}
        assert await state_of(store, bucket.api.prefix) == before


async def test_what_was_changed_behind_putgates_back_is_found(bucket: Bucket) -> None:
    bucket.spoil("small", FILES["small"][:-1])
    bucket.spoil("two-parts", TWO_PARTS)
    bucket.spoil("multipart", FILES["multipart"][::-1])
    bucket.spoil("folder/näme %2541%0A", b"an odd name", **{"putgate-hash": "x"})
    bucket.put("empty", b"overwritten whole: another tool's file now")
    findings, looked = await bucket.fsck()
    by_heads = {"small": "size_differs", "two-parts": "parts_differ", "folder/näme %2541%0A": "metadata_damaged"}
    assert bucket.shown(findings) == by_heads
    assert (looked.files, looked.foreign) == (4, 1)
    findings, looked = await bucket.fsck(rehash=True)
    assert bucket.shown(findings) == by_heads | {"multipart": "content_differs"}
    assert looked.rehashed == 2, "one is as it was, and one is not"


async def test_a_part_that_was_swapped_for_another_is_found_by_its_bytes(bucket: Bucket) -> None:
    """As long, and of as many parts."""
    spoiled = bytearray(TWO_PARTS)
    spoiled[-1] ^= 1
    key, where = bucket.api.prefix + "two-parts", {"Bucket": bucket.api.store.bucket}
    upload = bucket.client.create_multipart_upload(**where, Key=key, Metadata=bucket.metadata("two-parts"))["UploadId"]
    parts = []
    for number, body in enumerate((spoiled[: 8 * 1024 * 1024], spoiled[8 * 1024 * 1024 :]), 1):
        sent = bucket.client.upload_part(**where, Key=key, UploadId=upload, PartNumber=number, Body=bytes(body))
        parts.append({"PartNumber": number, "ETag": sent["ETag"]})
    bucket.client.complete_multipart_upload(**where, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
    assert (await bucket.fsck())[0] == []
    assert bucket.shown((await bucket.fsck(rehash=True))[0]) == {"two-parts": "content_differs"}


async def test_records_that_cannot_be_read_are_found(bucket: Bucket) -> None:
    async with store_of(bucket.api) as store:
        folder = f"{bucket.api.prefix}.putgate/v1/sessions/"
        first, second = [entry.key for entry in (await store.list(folder)).entries if entry.key.endswith(".json")]
        found = await store.get_small(first, 10_000)
        assert found is not None
        await store.put_small(first, json.dumps(json.loads(found.body) | {"v": 2}).encode())
        await store.put_small(second, found.body)
        await store.put_small(f"{folder}owner/cut.json", b'{"v": 1, "sta')
        await store.put_small(f"{folder}owner/long.json", b" " * 20_000)
    findings, looked = await bucket.fsck()
    assert looked.sessions == 4
    assert {found.kind for found in findings} == {"session_unreadable"}
    said = {found.key: found.detail for found in findings}
    assert "another version" in said[first]
    assert "of this place" in said[second]
    assert "damaged" in said[f"{folder}owner/cut.json"]
    assert "larger than" in said[f"{folder}owner/long.json"]


async def hint_of(bucket: Bucket, store: S3Store) -> tuple[str, dict[str, Any]]:
    """Key and content of the only hint: that of the one file that is large enough."""
    (entry,) = await hints(bucket, store)
    found = await store.get_small(entry, 10_000)
    assert found is not None
    return entry, json.loads(found.body)


async def hints(bucket: Bucket, store: S3Store) -> list[str]:
    page = await store.list(f"{bucket.api.prefix}.putgate/v1/index/")
    return [entry.key for entry in page.entries]


async def test_a_hint_without_its_file_is_counted_and_removed_where_that_is_wanted(bucket: Bucket) -> None:
    async with store_of(bucket.api) as store:
        key, _ = await hint_of(bucket, store)
        bucket.put("two-parts", b"another tool's now")
        findings, looked = await bucket.fsck()
        assert (findings, looked.hints, looked.stale_hints, looked.repaired) == ([], 1, 1, 0)
        before = await state_of(store, bucket.api.prefix)
        findings, looked = await bucket.fsck(repair=True)
        assert (findings, looked.hints, looked.stale_hints, looked.repaired) == ([], 1, 0, 1)
        after = await state_of(store, bucket.api.prefix)
        assert set(before.keys) - set(after.keys) == {each for each in before.keys if each[0] == key}
        assert (await bucket.fsck())[1].hints == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"v": 0}, "no hint that this version"),
        ({"v": "new"}, "no hint that this version"),
        ({"parts": ["0" * 64, "1" * 64]}, "no hint that this version"),
        ({"etags": ["0" * 32]}, "no hint that this version"),
        ({"owner": "0" * 64}, "scope of another owner"),
        ({"size": len(TWO_PARTS) - 1}, "something else of its file"),
        ({"name": None, "name_b64": "Li4="}, "no hint that this version"),
    ],
)
async def test_a_hint_that_says_what_is_not_so_is_found(bucket: Bucket, changes: dict[str, Any], says: str) -> None:
    async with store_of(bucket.api) as store:
        key, told = await hint_of(bucket, store)
        await store.put_small(key, json.dumps(told | changes).encode())
        (finding,), looked = await bucket.fsck()
        assert (finding.kind, finding.key, looked.repaired) == ("hint_damaged", key, 0)
        assert says in finding.detail
        (finding,), looked = await bucket.fsck(repair=True)
        assert (looked.repaired, "it is removed" in finding.detail) == (1, True)
        assert await hints(bucket, store) == []
        assert (await bucket.fsck())[0] == []


async def test_a_hint_of_a_newer_version_is_left_to_it(bucket: Bucket) -> None:
    async with store_of(bucket.api) as store:
        key, told = await hint_of(bucket, store)
        await store.put_small(key, json.dumps(told | {"v": 2, "parts": "other"}).encode())
        findings, looked = await bucket.fsck(repair=True)
        assert (findings, looked.hints, looked.newer_hints, looked.repaired) == ([], 1, 1, 0)
        assert await hints(bucket, store) == [key]
        assert "1 hints, 1 of a newer version of Putgate;" in str(looked)


async def test_what_is_no_hint_is_found_and_left(bucket: Bucket) -> None:
    async with store_of(bucket.api) as store:
        key, told = await hint_of(bucket, store)
        misplaced = f"{key.removesuffix('.json')}.old"
        await store.put_small(misplaced, json.dumps(told).encode())
        (finding,), looked = await bucket.fsck(repair=True)
        assert (finding.key, looked.repaired) == (misplaced, 0)
        assert set(await hints(bucket, store)) == {key, misplaced}


async def test_a_streamed_files_hint_leads_to_its_file() -> None:
    """Its hash and size are in a record of their own, not in its metadata."""
    store = memory_store(Clock())
    served = memory_bucket(store)
    await finish_stream(served, await stream_in(served, store, STREAMED), STREAMED)
    (key,) = index_keys(store)
    looked = Looked()
    assert [found async for found in Hints(store, PREFIX, repair=True).check(looked)] == []
    assert (looked.hints, looked.stale_hints, looked.repaired, index_keys(store)) == (1, 0, 0, [key])
    await store.delete(f"{PREFIX}s")
    assert [found async for found in Hints(store, PREFIX, repair=True).check(looked)] == []
    assert (looked.repaired, index_keys(store)) == (1, [])


async def test_hints_of_both_scopes_are_looked_at_alike() -> None:
    store = memory_store(Clock())
    served = memory_bucket(store, scope="Bucket")
    await finish_stream(served, await stream_in(served, store, STREAMED), STREAMED)
    looked = Looked()
    assert [found async for found in Hints(store, PREFIX, repair=True).check(looked)] == []
    assert (looked.hints, looked.stale_hints, looked.repaired) == (2, 0, 0)
    await store.delete(f"{PREFIX}s")
    assert [found async for found in Hints(store, PREFIX, repair=True).check(looked)] == []
    assert (looked.repaired, index_keys(store)) == (2, [])


async def test_a_hint_that_was_written_anew_meanwhile_is_kept(bucket: Bucket, store_proxy: StoreProxy) -> None:
    async with store_of(bucket.api) as store:
        key, told = await hint_of(bucket, store)
    bucket.put("two-parts", b"another tool's now")
    renewed = json.dumps(told, indent=1).encode()
    name = key.removeprefix(bucket.api.prefix)
    store_proxy.on(
        lambda call: call.method == "GET" and call.key.endswith(name.encode()),
        lambda _: bucket.put(name, renewed),
        when="after",
    )
    _, looked = await bucket.fsck(repair=True)
    assert (looked.stale_hints, looked.repaired) == (1, 0)
    async with store_of(bucket.api) as store:
        assert await hints(bucket, store) == [key]


def of_content(call: Call) -> bool:
    return call.presigned and call.method == "GET"


@pytest.mark.parametrize(
    "fault", [CutAnswer(after_bytes=3), FlipAnswerBit(at=2), Answer(status=503)], ids=["cut", "flipped", "busy"]
)
async def test_the_way_from_the_store_is_not_taken_for_the_file(
    bucket: Bucket, store_proxy: StoreProxy, fault: Fault
) -> None:
    rule = store_proxy.rule(of_content, fault, times=1)
    findings, looked = await bucket.fsck(rehash=True)
    assert (findings, looked.rehashed, rule.hits) == ([], 5, 1)


async def test_a_store_that_gives_no_ranges_is_said_to_be_one(bucket: Bucket, store_proxy: StoreProxy) -> None:
    store_proxy.rule(of_content, Answer(status=200, body=b"all of a file, not a part of it"))
    with pytest.raises(Permanent, match="no ranges"):
        await bucket.fsck(rehash=True)


async def test_a_file_that_is_replaced_while_it_is_read_is_looked_at_again(
    bucket: Bucket, store_proxy: StoreProxy
) -> None:
    data = b"another tool's, meanwhile"

    def of(name: str) -> Callable[[Call], bool]:
        return lambda call: of_content(call) and call.key.endswith(name.encode())

    store_proxy.on(of("small"), lambda _: bucket.put("small", data), times=1)
    # Between its two parts.
    store_proxy.on(of("two-parts"), lambda _: bucket.put("two-parts", data), when="after", times=1)
    findings, looked = await bucket.fsck(rehash=True)
    assert (findings, looked.files, looked.foreign, looked.changing) == ([], 3, 2, 0)
    versions = iter(range(100))
    store_proxy.on(of("multipart"), lambda _: bucket.spoil("multipart", b"%030d" % next(versions)))
    findings, looked = await bucket.fsck(rehash=True)
    assert (findings, looked.files, looked.changing) == ([], 2, 1)


@pytest.mark.slow
async def test_as_a_command(bucket: Bucket, store_proxy: StoreProxy) -> None:
    code, said, _ = await bucket.plain("--rehash")
    assert (code, said.count("\n")) == (0, 1)
    assert said.startswith(f"5 files of {SIZE} bytes, 5 read and hashed; 0 objects of other tools; 2 session records;")
    bucket.spoil("small", FILES["small"][:-1])
    code, said, _ = await bucket.plain("--json")
    finding, summary = map(json.loads, said.splitlines())
    detail = "6 bytes are stored, 7 were uploaded"
    assert (code, finding) == (1, {"finding": "size_differs", "key": f"{bucket.api.prefix}small", "detail": detail})
    assert (summary["summary"]["files"], summary["summary"]["findings"]) == (5, 1)
    bucket.put("small", b"another tool's")
    bucket.put("two-parts", b"another tool's")
    code, said, _ = await bucket.plain("--repair")
    assert (code, said.count("\n")) == (0, 1)
    assert "; 1 hints, 1 removed; findings: 0" in said
    store_proxy.rule(of_content, Answer(status=403))
    code, said, told = await bucket.plain("--rehash")
    assert (code, "answered 403" in told, "X-Amz" in told, "files of" in said) == (4, True, False, False)


def head(size: int, etag: str, **metadata: str) -> Head:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    of_file = {
        "putgate-upload": "n",
        "putgate-hash": "0" * 64,
        "putgate-size": str(size),
        "putgate-part-size": "10",
        "putgate-owner": "o",
    }
    known = {key: value for key, value in (of_file | metadata).items() if value}
    return Head(size=size, etag=etag, modified=moment, date=moment, metadata=known)


ONE = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("seen", "kinds"),
    [
        (head(0, ONE), []),
        (head(10, ONE), []),
        (head(10, f"{ONE}-1"), []),
        (head(11, f"{ONE.upper()}-2"), []),
        (head(11, ONE), ["parts_differ"]),
        (head(11, f"{ONE}-3"), ["parts_differ"]),
        (head(0, f"{ONE}-1"), ["parts_differ"]),
        (head(11, "opaque"), []),
        (head(11, ""), []),
        (head(11, f"{ONE}-2", **{"putgate-size": "12"}), ["size_differs"]),
        (head(11, ONE, **{"putgate-size": "31"}), ["size_differs", "parts_differ"]),
        (head(11, ONE, **{"putgate-size": "-1"}), ["metadata_damaged"]),
        (head(11, ONE, **{"putgate-size": ""}), ["metadata_damaged"]),
        (head(11, ONE, **{"putgate-part-size": "0"}), ["metadata_damaged"]),
        (head(11, ONE, **{"putgate-hash": "zz"}), ["metadata_damaged"]),
    ],
)
def test_what_a_head_says(seen: Head, kinds: list[str]) -> None:
    judged = judge("x", seen)
    assert judged is not None
    assert [finding.kind for finding in judged.findings] == kinds


def test_an_object_without_our_metadata_is_not_ours() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert judge("x", Head(size=1, etag=ONE, modified=moment, date=moment, metadata={"mtime": "1"})) is None
