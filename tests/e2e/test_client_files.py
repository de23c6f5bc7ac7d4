"""Files of every size and name go up and come down the same."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import putgate
from putgate import BytesSource, Failed, FileSource, Job, Name, Uploaded
from putgate_protocol.digests import FileHash, PartHash
from tests.client.stack import MIB, Stack, a_stack, the_servers  # noqa: F401

PART = 8 * MIB
PUTS = ("PutObject", "UploadPart")

NAMES = [
    b"with spaces/and  more",
    "ünï/cödé/日本語".encode(),
    b"a+b %41 %zz #frag ?query=1 &x \\back",
    b"line\nbreak\ttab",
    b"not utf-8 \xff\xfe \xc3",
    b"s" * 255,
    "é".encode() * 127,
    b"dots/..a/b../.../c",
    b"quote'\"<>|*:;,=@$![]{}()~`^",
]


def client_puts(stack: Stack) -> int:
    return len([call for call in stack.store.of_kind(*PUTS) if call.presigned])


@pytest.mark.parametrize("size", [0, 1, 4096, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1])
async def test_every_size(stack: Stack, size: int) -> None:
    path = stack.file(size)
    name = stack.prefix + "file"
    async with stack.client() as client:
        first = await client.upload(path, name)
        assert first.sent_bytes == size == stack.store.put_body_bytes
        assert first.how == ("exists" if size == 0 else "put" if size <= PART else "complete")
        stored = await client.stat(name)
        assert stored.size == size
        data = path.read_bytes()
        parts = [PartHash(hashlib.sha256(data[at : at + PART]).digest()) for at in range(0, size, PART)]
        assert stored.file_hash == str(FileHash.of(parts))
        target = stack.folder / "out"
        await client.download(name, target)
        assert target.read_bytes() == data
        again = await client.upload(path, name)
        assert (again.how, again.sent_bytes) == ("exists", 0)
        assert stack.store.put_body_bytes == size
    assert stack.open_uploads() == []


@pytest.mark.parametrize("raw", NAMES)
async def test_every_name(stack: Stack, raw: bytes) -> None:
    name = stack.prefix.encode() + raw
    async with stack.client() as client:
        await client.upload(b"content of " + raw, name)
        assert (await client.stat(name)).parsed_name().raw == name
        await client.download(name, stack.folder / "out")
        assert (stack.folder / "out").read_bytes() == b"content of " + raw
        assert [file.parsed_name().raw async for file in client.list(stack.prefix)] == [name]
        await client.delete(name)
        with pytest.raises(putgate.NotFound):
            await client.stat(name)
        with pytest.raises(putgate.NotFound):
            await client.delete(name)


async def test_names_of_files_go_through_the_command(stack: Stack) -> None:
    folder = os.fsencode(stack.folder)
    files = [raw.rpartition(b"/")[2] for raw in NAMES]
    for raw in files:
        Path(os.fsdecode(folder + b"/" + raw)).write_bytes(b"content of " + raw)
    done = stack.run("upload", *(folder + b"/" + raw for raw in files), "--to", stack.prefix)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == len(files)
    async with stack.client() as client:
        stored = {file.parsed_name().raw async for file in client.list(stack.prefix)}
    assert stored == {stack.prefix.encode() + raw for raw in files}
    out = stack.folder / "out"
    for raw in files:
        done = stack.run("download", stack.prefix.encode() + raw, out)
        assert done.returncode == 0, done.stderr
        assert out.read_bytes() == b"content of " + raw


async def test_a_file_that_is_there_is_not_sent_even_by_a_new_client(stack: Stack) -> None:
    path = stack.file(3 * PART)
    async with stack.client() as client:
        await client.upload(path, stack.prefix + "x")
    stack.store.reset()
    async with stack.client() as client:
        assert (await client.upload(path, stack.prefix + "x")).how == "exists"
    assert stack.store.put_body_bytes == 0
    assert client_puts(stack) == 0


async def test_many_small_files_take_one_put_each(stack: Stack) -> None:
    count = 600
    jobs = [_job(f"{stack.prefix}{number % 20:02}/{number:04}", b"file %d" % number) for number in range(count)]
    async with stack.client() as client:
        outcomes = [outcome async for outcome in client.engine().upload_many(_stream(jobs))]
        assert all(isinstance(outcome, Uploaded) and outcome.how == "put" for outcome in outcomes)
        assert client_puts(stack) == count
        # One LIST per 100 names at most, and a few looks of the batches.
        assert stack.store.total <= count * 1.1
        stack.store.reset()
        again = [outcome async for outcome in client.engine().upload_many(_stream(jobs))]
        assert all(isinstance(outcome, Uploaded) and outcome.how == "exists" for outcome in again)
    assert len(again) == count
    assert stack.store.put_body_bytes == 0


async def test_small_large_bad_and_repeated_files_together(stack: Stack) -> None:
    large = stack.file(2 * PART + 3, "large")
    jobs = [
        _job(f"{stack.prefix}same", b"first"),
        Job(name=_name(f"{stack.prefix}absent"), source=FileSource(stack.folder / "absent")),
        Job(name=_name(f"{stack.prefix}large"), source=FileSource(large)),
        _job(f"{stack.prefix}same", b"second"),
        _job(f"{stack.prefix}empty", b""),
        _job(f"{stack.prefix}.uploads.versions", b"a name that SeaweedFS keeps for itself"),
        _job(f"{stack.prefix}same", b"third and last"),
    ]
    async with stack.client() as client:
        outcomes = [outcome async for outcome in client.engine().upload_many(_stream(jobs))]
        failed = {str(o.job.name).rpartition("/")[2]: o.error for o in outcomes if isinstance(o, Failed)}
        assert isinstance(failed.pop("absent"), FileNotFoundError)
        reserved = failed.pop(".uploads.versions")
        assert isinstance(reserved, putgate.Problem)
        assert reserved.code == "name_reserved"
        assert failed == {}
        assert len(outcomes) == len(jobs)
        await client.download(f"{stack.prefix}same", stack.folder / "out")
        assert (stack.folder / "out").read_bytes() == b"third and last"
        await client.download(f"{stack.prefix}large", stack.folder / "out")
        assert (stack.folder / "out").read_bytes() == large.read_bytes()


async def test_jobs_that_trickle_in_are_not_held_back(stack: Stack) -> None:
    answered = asyncio.Event()

    async def trickle() -> AsyncIterator[Job]:
        yield _job(f"{stack.prefix}1", b"one")
        await asyncio.wait_for(answered.wait(), 30)
        yield _job(f"{stack.prefix}2", b"two")

    names = []
    async with stack.client() as client:
        async for outcome in client.engine().upload_many(trickle()):
            assert isinstance(outcome, Uploaded)
            names.append(str(outcome.job.name))
            answered.set()
    assert names == [f"{stack.prefix}1", f"{stack.prefix}2"]


async def test_leaving_early_cancels_the_rest(stack: Stack) -> None:
    before = asyncio.all_tasks()
    async with stack.client() as client:
        outcomes = client.engine().upload_many(_stream([_job(f"{stack.prefix}{n}", b"x") for n in range(300)]))
        async for _ in outcomes:
            break
        await outcomes.aclose()
    assert asyncio.all_tasks() == before


async def test_confirmed_and_registered_commits_are_completed_in_batches(stack: Stack) -> None:
    jobs = [_job(f"{stack.prefix}{number}", b"%d" % number, confirm=True) for number in range(50)]
    big_enough = _job(f"{stack.prefix}big", os.urandom(300 * 1024))
    async with stack.client() as client:
        outcomes = [outcome async for outcome in client.engine().upload_many(_stream([*jobs, big_enough]))]
    assert all(isinstance(o, Uploaded) and o.how == "put" and o.file.version for o in outcomes)
    assert stack.calls.counts["complete_multipart_upload"] == 0
    assert stack.calls.counts["batch"] < 30


async def test_preconditions(stack: Stack) -> None:
    name = stack.prefix + "x"
    async with stack.client() as client:
        await client.upload(b"one", name, if_absent=True)
        with pytest.raises(putgate.PreconditionFailed):
            await client.upload(b"two", name, if_absent=True)
        version = (await client.stat(name)).version
        await client.upload(b"two", name, if_match=version)
        with pytest.raises(putgate.PreconditionFailed):
            await client.upload(b"three", name, if_match=version)
        await client.download(name, stack.folder / "out")
    assert (stack.folder / "out").read_bytes() == b"two"


def _name(text: str) -> Name:
    return Name.parse(text.encode())


def _job(name: str, data: bytes, *, confirm: bool = False) -> Job:
    return Job(name=_name(name), source=BytesSource(data), confirm=confirm)


async def _stream(jobs: list[Job]) -> AsyncIterator[Job]:
    for job in jobs:
        yield job
