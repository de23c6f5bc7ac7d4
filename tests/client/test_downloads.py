"""Downloads from a real store: in ranges, of one version, through everything that goes wrong on the way."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import putgate
from putgate.download.downloader import TRIES
from putgate.download.unfinished import FOREIGN_PART, RUN
from tests.client.stack import COMMAND, MIB, Stack, a_stack, the_servers  # noqa: F401
from tests.e2e.test_client_crash import MOST_MEMORY, peak
from tests.servers.api import ApiProcess
from tests.servers.proxy_calls import Call, every, nth
from tests.servers.proxy_faults import Answer, CutAnswer, CutBefore, FlipAnswerBit

PART = 8 * MIB
BEFORE = b"what was there before"


def ranged(call: Call) -> bool:
    return call.kind == "GetObject" and call.presigned


def ranges(stack: Stack) -> list[tuple[int, int]]:
    """What was asked for of the store: begin and end, where a range was named."""
    found = [re.fullmatch(r"bytes=(\d+)-(\d+)", call.head.headers.get("range", "")) for call in gets(stack)]
    return [(int(one[1]), int(one[2]) + 1) for one in found if one]


def gets(stack: Stack) -> list[Call]:
    return [call for call in stack.store.requests if ranged(call)]


async def stored(stack: Stack, size: int, name: str = "x") -> tuple[str, Path]:
    path = stack.file(size, f"source-{name}")
    async with stack.client() as client:
        await client.upload(path, stack.prefix + name)
    stack.store.reset()
    stack.calls.reset()
    return stack.prefix + name, path


def foreign(stack: Stack, name: str, data: bytes) -> str:
    """Stored by another tool."""
    client: Any = stack.api.store.client()
    try:
        client.put_object(Bucket=stack.api.store.bucket, Key=stack.api.prefix + stack.prefix + name, Body=data)
    finally:
        client.close()
    return stack.prefix + name


def same(one: Path, other: Path) -> bool:
    with one.open("rb") as here, other.open("rb") as there:
        while piece := here.read(MIB):
            if there.read(MIB) != piece:
                return False
        return there.read() == b""


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".putgate-")]


async def test_a_large_file_comes_in_ranges_of_one_version_at_once(stack: Stack) -> None:
    name, path = await stored(stack, 3 * RUN + PART + 5)
    waiting = threading.Barrier(4, timeout=60)
    stack.store.on(ranged, lambda call: waiting.wait())  # breaks unless all four are under way together
    heard: list[int] = []
    async with stack.client() as client:
        file = await client.download(name, stack.folder / "out", on_bytes=heard.append)
    assert same(path, stack.folder / "out")
    assert sum(heard) == file.size == path.stat().st_size
    assert sorted(ranges(stack)) == [(0, RUN), (RUN, 2 * RUN), (2 * RUN, 3 * RUN), (3 * RUN, file.size)]
    assert {call.head.headers["if-match"] for call in gets(stack)} == {f'"{file.version}"'}
    assert stack.calls.counts["GET files"] == 1
    assert left_over(stack.folder) == []


async def test_no_more_ranges_at_once_than_allowed(stack: Stack) -> None:
    name, path = await stored(stack, 5 * RUN)
    most, lock = [0, 0], threading.Lock()

    def came(call: Call) -> None:
        with lock:
            most[0] += 1
            most[1] = max(most)

    def went(call: Call) -> None:
        with lock:
            most[0] -= 1

    stack.store.on(ranged, came)
    stack.store.on(ranged, went, when="after")
    async with stack.client(concurrency=2) as client:
        await client.download(name, stack.folder / "out")
    assert same(path, stack.folder / "out")
    assert 1 <= most[1] <= 2


async def test_through_every_kind_of_trouble(stack: Stack) -> None:
    name, path = await stored(stack, 4 * RUN + 7)
    stack.store.rule(every(5, ranged), CutBefore(), times=3)
    stack.store.rule(every(4, ranged), CutAnswer(after_bytes=5_000_003), times=8)
    stack.store.rule(every(3, ranged), Answer(status=503), times=3)
    async with stack.client() as client:
        await client.download(name, stack.folder / "out")
    assert same(path, stack.folder / "out")
    assert len(gets(stack)) > 5


async def test_a_store_that_always_gives_a_little_is_not_given_up(stack: Stack) -> None:
    """More cuts than the tries that a store which gives nothing has."""
    name, path = await stored(stack, 2 * PART)
    stack.store.rule(ranged, CutAnswer(after_bytes=MIB))
    async with stack.client(give_up_after=timedelta(0)) as client:
        await client.download(name, stack.folder / "out")
    assert same(path, stack.folder / "out")
    assert len(gets(stack)) >= 16


async def test_a_store_that_gives_nothing_is_given_up_and_what_came_is_kept(stack: Stack) -> None:
    name, path = await stored(stack, 2 * RUN)
    target = stack.folder / "out"
    target.write_bytes(BEFORE)
    down = stack.store.rule(lambda call: ranged(call) and not asks_for_the_first(call), CutBefore())
    heard: list[int] = []
    async with stack.client(give_up_after=timedelta(0), concurrency=1) as client:
        with pytest.raises(putgate.Unreachable):
            await client.download(name, target, on_bytes=heard.append)
        assert sum(heard) == 0
        assert target.read_bytes() == BEFORE
        assert len(left_over(stack.folder)) == 2
        down.times = 0
        stack.store.reset()
        await client.download(name, target, on_bytes=heard.append)
    assert ranges(stack) == [(RUN, 2 * RUN)]
    assert sum(heard) == 2 * RUN
    assert same(path, target)
    assert left_over(stack.folder) == []


def asks_for_the_first(call: Call) -> bool:
    return call.head.headers.get("range", "").startswith("bytes=0-")


async def test_urls_that_expire_are_renewed_once_for_all_ranges(stack: Stack) -> None:
    name, path = await stored(stack, 4 * RUN)
    urls: list[str] = []
    refused = stack.store.rule(
        lambda call: ranged(call) and call.head.query["X-Amz-Signature"] in urls, Answer(status=403)
    )
    waiting = threading.Barrier(4, timeout=60)

    def all_have_the_first(call: Call) -> None:
        waiting.wait()
        urls.append(call.head.query["X-Amz-Signature"])

    stack.store.on(ranged, all_have_the_first, times=4)
    # URLs signed within one second are equal: the next must be another.
    stack.calls.on(nth(2, lambda call: call.kind == "GET files"), lambda call: later_second(stack), times=1)
    async with stack.client() as client:
        await client.download(name, stack.folder / "out")
    assert refused.hits == 4
    assert stack.calls.counts["GET files"] == 2
    assert same(path, stack.folder / "out")


def later_second(stack: Stack) -> None:
    """Wait for the clock's next second."""
    now = int(os.times().elapsed)
    while int(os.times().elapsed) <= now + 1:
        threading.Event().wait(0.05)


@pytest.mark.slow
async def test_a_url_that_has_really_expired_is_renewed(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> None:
    api = ApiProcess(
        tmp_path_factory.mktemp("api"), stack.api.store, prefix=f"short-{stack.prefix}", endpoint=stack.store.url
    )
    api.settings["download"] = {"url_ttl": "10s"}
    api.start()

    def outlive(call: Call) -> None:
        signed = datetime.strptime(call.head.query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        while datetime.now(UTC) - signed < timedelta(seconds=12):
            threading.Event().wait(0.1)

    try:
        path = stack.file(2 * RUN)
        async with putgate.Client(api.url, token=api.token, options=putgate.Options(concurrency=1)) as client:
            await client.upload(path, "x")
            stack.store.reset()
            stack.store.on(nth(2, ranged), outlive, times=1)
            await client.download("x", stack.folder / "out")
    finally:
        api.kill()
    assert [call.status for call in gets(stack)] == [206, 403, 206]
    assert len({call.head.query["X-Amz-Signature"] for call in gets(stack)}) == 2
    assert same(path, stack.folder / "out")


async def test_a_store_that_refuses_every_url_is_an_error(stack: Stack) -> None:
    name, _ = await stored(stack, 2 * PART)
    stack.store.rule(ranged, Answer(status=403))
    async with stack.client() as client:
        with pytest.raises(putgate.StoreRefused, match="HTTP 403"):
            await client.download(name, stack.folder / "out")
    assert not (stack.folder / "out").exists()
    assert left_over(stack.folder) == []


async def test_a_store_that_refuses_every_url_is_the_same_error_where_patience_ends_first(stack: Stack) -> None:
    name, _ = await stored(stack, 2 * PART)
    stack.store.rule(ranged, Answer(status=403, body=b"<Error><Code>AccessDenied</Code></Error>"))
    async with stack.client(give_up_after=timedelta(0)) as client:
        for target in (stack.folder / "out", io.BytesIO()):
            with pytest.raises(putgate.StoreRefused, match="HTTP 403 AccessDenied") as refused:
                await client.download(name, target)
            assert refused.value.status == 403
    done = stack.run("download", name, "out", "--retry-for", "0s")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"putgate: {name}: the store answered HTTP 403 AccessDenied\n"
    assert left_over(stack.folder) == []


@pytest.mark.parametrize("how", ["other size", "same size"])
async def test_a_file_that_is_replaced_meanwhile_comes_whole_as_it_then_is(stack: Stack, how: str) -> None:
    name, path = await stored(stack, 3 * RUN)
    other = stack.file(path.stat().st_size if how == "same size" else 1000, "other")
    stack.store.on(nth(2, ranged), lambda _: replace(stack, name, other), times=1)
    async with stack.client(concurrency=1) as client:
        await client.download(name, stack.folder / "out")
    assert same(other, stack.folder / "out")
    assert left_over(stack.folder) == []


async def test_a_file_that_is_removed_meanwhile_is_not_found_and_nothing_is_replaced(stack: Stack) -> None:
    name, _ = await stored(stack, 3 * RUN)
    target = stack.folder / "out"
    target.write_bytes(BEFORE)

    def remove(_: Call) -> None:
        done = stack.run("rm", name)
        assert done.returncode == 0, done.stderr

    stack.store.on(nth(2, ranged), remove, times=1)
    async with stack.client(concurrency=1) as client:
        with pytest.raises(putgate.NotFound):
            await client.download(name, target)
    assert target.read_bytes() == BEFORE
    assert left_over(stack.folder) == []


@pytest.mark.slow
async def test_a_file_that_is_replaced_again_and_again_is_an_error_and_nothing_is_replaced(stack: Stack) -> None:
    name, _ = await stored(stack, 3 * RUN)
    others = [stack.file(2 * RUN, f"other-{at}") for at in range(TRIES)]
    target = stack.folder / "out"
    target.write_bytes(BEFORE)
    waiting = iter(others)
    stack.store.on(ranged, lambda _: replace(stack, name, next(waiting)), times=TRIES)
    async with stack.client(concurrency=1) as client:
        with pytest.raises(putgate.FileReplaced, match="replaced or removed while"):
            await client.download(name, target)
    assert target.read_bytes() == BEFORE
    assert left_over(stack.folder) == []


def replace(stack: Stack, name: str, other: Path) -> None:
    done = stack.run("upload", other, "--to", name)
    assert done.returncode == 0, done.stderr


async def test_wrong_bytes_of_the_right_length_are_no_file(stack: Stack) -> None:
    name, _ = await stored(stack, 2 * RUN)
    target = stack.folder / "out"
    target.write_bytes(BEFORE)
    stack.store.rule(nth(2, ranged), FlipAnswerBit(at=77))
    async with stack.client() as client:
        with pytest.raises(putgate.NotVerified, match="not those that were stored"):
            await client.download(name, target)
    assert target.read_bytes() == BEFORE
    assert left_over(stack.folder) == []


async def test_what_is_no_file_is_refused_before_any_byte_is_fetched(stack: Stack) -> None:
    name, _ = await stored(stack, 2 * PART)
    folder = stack.folder / "folder"
    pipe = folder / "pipe"
    folder.mkdir()
    os.mkfifo(pipe)
    async with stack.client() as client:
        with pytest.raises(IsADirectoryError, match=re.escape(str(folder))):
            await client.download(name, folder)
        with pytest.raises(FileExistsError, match=re.escape(str(pipe))):
            await client.download(name, pipe)
    done = stack.run("download", name, pipe)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"putgate: {pipe}: not a regular file, so it is not replaced\n"
    (folder / "x").mkdir()
    done = stack.run("download", name, folder)
    assert (done.returncode, done.stderr) == (1, f"putgate: {folder / 'x'}: is a directory\n")
    assert gets(stack) == []
    assert pipe.is_fifo()
    assert left_over(stack.folder) == left_over(folder) == []


async def test_a_file_of_another_tool_comes_whole_and_has_no_hash(stack: Stack) -> None:
    data = os.urandom(RUN + FOREIGN_PART + 1)
    name = foreign(stack, "foreign", data)
    async with stack.client() as client:
        file = await client.download(name, stack.folder / "out")
    assert file.file_hash is None
    assert (stack.folder / "out").read_bytes() == data
    assert len(gets(stack)) == 2
    done = stack.run("download", name, "again")
    assert done.returncode == 0
    assert f"{name}: not verified: another tool has stored it" in done.stderr
    assert '"verified": false' in stack.run("download", name, "again", "--json").stdout


async def test_cancelling_ends_at_once_and_the_next_try_goes_on(stack: Stack) -> None:
    name, path = await stored(stack, 2 * RUN)
    second = asyncio.Event()
    loop = asyncio.get_running_loop()
    held = threading.Event()

    def hold(call: Call) -> None:
        loop.call_soon_threadsafe(second.set)
        held.wait(60)

    stack.store.on(nth(2, ranged), hold, times=1)
    async with stack.client(concurrency=1) as client:
        task = asyncio.create_task(client.download(name, stack.folder / "out"))
        await asyncio.wait_for(second.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held.set()
        stack.store.reset()
        await client.download(name, stack.folder / "out")
    assert ranges(stack) == [(RUN, 2 * RUN)]
    assert same(path, stack.folder / "out")


# Killed


async def test_a_killed_download_goes_on_where_it_stopped(stack: Stack) -> None:
    name, path = await stored(stack, 8 * RUN)
    target = stack.folder / "out"
    target.write_bytes(BEFORE)
    process = stack.start("download", name, target)
    # Four ranges are written to their last part; others are in the middle.
    stack.store.wait_until(lambda proxy: lines_of_state(stack) >= 16, 120)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert target.read_bytes() == BEFORE
    held = lines_of_state(stack)
    assert 16 <= held < 32, "it was over before it was killed"

    stack.store.wait_idle()
    stack.store.reset()
    peaks: list[int] = []
    process = stack.start("download", name, target)
    stack.store.on(ranged, lambda call: peaks.append(peak(process)), when="after")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert sum(end - start for start, end in ranges(stack)) == (32 - held) * PART
    assert same(path, target)
    assert left_over(stack.folder) == []
    assert 0 < max(peaks) < MOST_MEMORY


def lines_of_state(stack: Stack) -> int:
    """Parts that are said to be there."""
    found = list(stack.folder.glob(".putgate-*.parts"))
    return max(0, found[0].read_bytes().count(b"\n") - 1) if found else 0


@pytest.mark.slow
async def test_killed_again_and_again_it_ends_whole(stack: Stack) -> None:
    name, path = await stored(stack, 8 * RUN)
    for kills in range(1, 6):
        process = stack.start("download", name, "out")
        aim = kills * 5
        stack.store.wait_until(lambda proxy, aim=aim: lines_of_state(stack) >= aim, 120)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = stack.run("download", name, "out")
    assert done.returncode == 0, done.stderr
    assert same(path, stack.folder / "out")
    assert left_over(stack.folder) == []


# To a stream


async def test_a_stream_gets_the_bytes_in_order(stack: Stack) -> None:
    name, path = await stored(stack, RUN + 5)
    stack.store.rule(nth(1, ranged), CutAnswer(after_bytes=9_000_001))
    stream = io.BytesIO()
    async with stack.client() as client:
        file = await client.download(name, stream)
        assert stream.getvalue() == path.read_bytes()
        assert file.size == RUN + 5
        await client.upload(b"", stack.prefix + "empty")
        assert (await client.download(stack.prefix + "empty", stream)).size == 0


async def test_a_stream_of_wrong_bytes_is_an_error_at_its_end(stack: Stack) -> None:
    name, _ = await stored(stack, PART + 5)
    stack.store.rule(ranged, FlipAnswerBit(at=77))
    async with stack.client() as client:
        with pytest.raises(putgate.NotVerified, match="and were written"):
            await client.download(name, io.BytesIO())


async def test_the_command_pours_into_a_pipe(stack: Stack) -> None:
    name, path = await stored(stack, PART + 5)
    poured = pour(stack, name)
    assert (poured.returncode, poured.stderr) == (0, b"")
    assert poured.stdout == path.read_bytes()
    assert not (stack.folder / "-").exists()
    assert stack.run("download", name, "./-").returncode == 0
    assert same(path, stack.folder / "-")
    stack.store.rule(ranged, FlipAnswerBit(at=77))
    spoilt = pour(stack, name)
    assert spoilt.returncode == 1
    assert b"not those that were stored" in spoilt.stderr
    assert len(spoilt.stdout) == PART + 5
    assert stack.run("download", name, "-", "--json").returncode == 2


async def test_a_reader_that_leaves_ends_the_command(stack: Stack) -> None:
    name, _ = await stored(stack, 4 * PART)
    done = subprocess.run(
        ["/bin/sh", "-c", f"'{COMMAND}' download '{name}' - | head -c 5"],
        capture_output=True,
        env=stack.environment(),
        cwd=stack.folder,
        timeout=120,
        check=False,
    )
    assert len(done.stdout) == 5
    assert b"Traceback" not in done.stderr


def pour(stack: Stack, name: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [COMMAND, "download", name, "-"],
        capture_output=True,
        env=stack.environment(),
        cwd=stack.folder,
        timeout=120,
        check=False,
    )
