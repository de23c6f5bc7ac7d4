"""Streams through the client and the command: whole and verified, or nothing; in a few buffers, whatever goes wrong."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import putgate
from putgate.cli.upload_stream import GIVEN_UP
from tests.client.stack import COMMAND, MIB, Stack, a_stack, the_servers  # noqa: F401
from tests.servers.kube.waiting import until
from tests.servers.proxy_calls import Call, every, kind, nth
from tests.servers.proxy_faults import Answer, Cut, FlipBit, LoseAnswer

PART = 8 * MIB
SIGN = kind("auth_sign")
COMPLETE = kind("complete_multipart_upload")


def part_put(call: Call) -> bool:
    return call.kind == "UploadPart" and call.presigned


async def download(stack: Stack, client: putgate.Client, name: str) -> bytes:
    target = stack.folder / "out"
    await client.download(name, target)
    return target.read_bytes()


class Dribble(io.RawIOBase):
    """Bytes in pieces that fit nothing."""

    def __init__(self, data: bytes, fail_at: int | None = None) -> None:
        self._data = io.BytesIO(data)
        self._fail_at = fail_at

    def read(self, size: int = -1) -> bytes:
        if self._fail_at is not None and self._data.tell() >= self._fail_at:
            raise OSError(5, "Input/output error")
        return self._data.read(min(size, 65_537))


@pytest.mark.parametrize("size", [PART, PART + 1, 4 * PART, 5 * PART + 12_345])
async def test_a_stream_becomes_a_file_that_is_verified(stack: Stack, size: int) -> None:
    data, name = os.urandom(size), stack.prefix + "x"
    async with stack.client() as client:
        done = await client.upload_stream(Dribble(data), name, content_type="text/x-dump", size=size)
        assert (done.how, done.sent_bytes, done.file.size) == ("complete", size, size)
        found = await client.stat(name)
        assert found.file_hash == done.file.file_hash is not None
        assert found.content_type == "text/x-dump"
        assert await download(stack, client, name) == data
        assert (await client.upload(data, name)).how == "exists"
    assert stack.open_uploads() == []


@pytest.mark.parametrize("size", [0, 1, PART - 1])
async def test_a_stream_that_ends_at_once_is_a_small_file(stack: Stack, size: int) -> None:
    data, name = os.urandom(size), stack.prefix + "x"
    async with stack.client() as client:
        await client.upload_stream(Dribble(data), name)
        assert await download(stack, client, name) == data
    assert stack.calls.counts["auth_sign"] == 0


async def test_what_is_spoilt_cut_or_refused_is_sent_again_from_its_buffer(stack: Stack) -> None:
    data, name = os.urandom(12 * PART + 5), stack.prefix + "x"
    faults = [
        stack.store.rule(nth(2, part_put), FlipBit(at=4_000_000)),
        stack.store.rule(nth(5, part_put), Answer(status=500)),
        stack.store.rule(nth(8, part_put), Answer(status=403)),
        stack.store.rule(nth(11, part_put), Cut(after_bytes=1_000_000)),
        stack.calls.rule(nth(3, SIGN), LoseAnswer()),
        stack.calls.rule(nth(1, COMPLETE), LoseAnswer()),
    ]
    async with stack.client() as client:
        done = await client.upload_stream(Dribble(data), name)
        assert (done.sent_bytes, done.file.size) == (len(data), len(data))
        assert await download(stack, client, name) == data
    assert [fault.hits for fault in faults] == [1] * len(faults)


async def test_the_lost_answer_of_an_append_declares_nothing_twice(stack: Stack) -> None:
    def append(call: Call) -> bool:
        return call.method == "PUT" and not call.presigned and call.key.endswith(b".parts")

    data, name = os.urandom(6 * PART), stack.prefix + "x"
    fault = stack.store.rule(every(2, append), LoseAnswer())
    async with stack.client() as client:
        await client.upload_stream(Dribble(data), name)
        assert await download(stack, client, name) == data
    assert fault.hits >= 1


async def test_a_source_that_fails_leaves_nothing(stack: Stack) -> None:
    data, name = os.urandom(5 * PART), stack.prefix + "x"
    async with stack.client() as client:
        with pytest.raises(OSError, match="Input/output"):
            await client.upload_stream(Dribble(data, fail_at=3 * PART + 77), name)
        with pytest.raises(putgate.NotFound):
            await client.stat(name)
    assert stack.open_uploads() == []


@pytest.mark.parametrize("said", [0, 3 * PART - 1, 3 * PART + 1, 10 * PART])
async def test_a_stream_of_another_size_than_was_said_is_refused(stack: Stack, said: int) -> None:
    data, name = os.urandom(3 * PART), stack.prefix + "x"
    async with stack.client() as client:
        with pytest.raises(putgate.WrongSize):
            await client.upload_stream(Dribble(data), name, size=said)
        with pytest.raises(putgate.WrongSize):
            await client.upload_stream(Dribble(data[:100]), name, size=said or 1)
        with pytest.raises(putgate.NotFound):
            await client.stat(name)
    assert stack.open_uploads() == []


async def test_a_store_that_refuses_for_ever_ends_it(stack: Stack) -> None:
    stack.store.rule(lambda call: part_put(call) and call.part_number == 2, Answer(status=403))
    async with stack.client() as client:
        with pytest.raises(putgate.StoreRefused, match="part 2"):
            await client.upload_stream(Dribble(os.urandom(6 * PART)), stack.prefix + "x")
    assert stack.open_uploads() == []


async def test_a_cancelled_stream_gives_up_and_waits_for_no_reader(stack: Stack) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Stuck(Dribble):
        def read(self, size: int = -1) -> bytes:
            if self._data.tell() >= 2 * PART:
                entered.set()
                leave.wait()
                return b""
            return super().read(size)

    async with stack.client() as client:
        task = asyncio.create_task(client.upload_stream(Stuck(os.urandom(3 * PART)), stack.prefix + "x"))
        await asyncio.to_thread(entered.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        leave.set()
        with pytest.raises(putgate.NotFound):
            await client.stat(stack.prefix + "x")
    assert stack.open_uploads() == []


async def test_larger_parts_for_long_streams(stack: Stack) -> None:
    data, name = os.urandom(2 * PART + 7), stack.prefix + "x"
    async with stack.client() as client:
        done = await client.upload_stream(Dribble(data), name, part_size=2 * PART)
        assert done.file.size == len(data)
        assert await download(stack, client, name) == data
        with pytest.raises(putgate.Conflict, match="part_size_mismatch"):
            await client.upload_stream(Dribble(data), name, part_size=PART + 1)
    assert len([call for call in stack.store.requests if part_put(call)]) == 2


def test_scripts_without_a_loop_stream_too(stack: Stack) -> None:
    data, name = os.urandom(2 * PART), stack.prefix + "x"
    with putgate.sync.Client(stack.calls.url, token=stack.api.token) as client:
        assert client.upload_stream(io.BytesIO(data), name, size=len(data)).file.size == len(data)
        client.download(name, stack.folder / "out")
    assert (stack.folder / "out").read_bytes() == data


def piped(stack: Stack, data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [COMMAND, "upload", "-", *arguments],
        input=data,
        capture_output=True,
        env=stack.environment(),
        cwd=stack.folder,
        check=False,
    )


def test_the_command_uploads_its_standard_input(stack: Stack) -> None:
    data, name = os.urandom(2 * PART + 3), stack.prefix + "dump"
    done = piped(stack, data, name, "--size", str(len(data)))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"uploaded  {name}  (16.0 MiB)\n"
    assert stack.run("download", name, "out").returncode == 0
    assert (stack.folder / "out").read_bytes() == data
    done = piped(stack, b"", "--to", stack.prefix + "empty")
    assert (done.returncode, done.stderr) == (0, b"")
    assert "size       0 bytes" in stack.run("stat", stack.prefix + "empty").stdout


def test_a_truncated_pipe_is_refused_where_its_size_is_known(stack: Stack) -> None:
    name = stack.prefix + "dump"
    for data in (os.urandom(2 * PART + 3), b"short", b""):
        done = piped(stack, data, name, "--size", str(3 * PART))
        assert done.returncode == 1
        assert b"instead of 25165824; nothing was stored" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert stack.run("stat", name).returncode == 5
    assert stack.open_uploads() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("a", "-"),
        ("-",),
        ("-", "a", "b"),
        ("-", "a/"),
        ("-", "a", "--to", "b"),
        ("-", "--to", "b/"),
        ("-r", "-", "a"),
        ("-", "a//b"),
        ("a", "--size", "3"),
    ],
)
def test_what_no_stream_can_be_is_wrong_usage(stack: Stack, arguments: tuple[str, ...]) -> None:
    done = stack.run("upload", *arguments)
    assert done.returncode == 2, done.stderr


@contextmanager
def streaming(stack: Stack, name: str, *, in_background: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A command in the midst of a stream whose source says nothing more. `in_background`: as a shell job that ignores
    Ctrl-C.
    """
    shell = ["/bin/sh", "-c", "trap '' INT; exec \"$@\"", "sh"] if in_background else []
    before = len([call for call in stack.store.requests if part_put(call)])
    with subprocess.Popen(
        [*shell, COMMAND, "upload", "-", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=stack.environment(),
    ) as running:
        assert running.stdin is not None
        running.stdin.write(os.urandom(3 * PART + 5))
        running.stdin.flush()
        until(
            "two parts",
            lambda: len([call for call in stack.store.requests if part_put(call)]) >= before + 2,
            within=60,
        )
        try:
            yield running
        finally:
            running.kill()


@pytest.mark.parametrize(
    ("number", "in_background"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)]
)
def test_a_signal_gives_the_stream_up(stack: Stack, number: signal.Signals, in_background: bool) -> None:
    with streaming(stack, stack.prefix + "x", in_background=in_background) as running:
        running.send_signal(number)
        assert running.wait(30) == 130
        assert running.stderr is not None
        assert running.stderr.read().decode() == f"putgate: {GIVEN_UP}\n"
    assert stack.run("stat", stack.prefix + "x").returncode == 5
    assert stack.open_uploads() == []


def peak_memory(process: int) -> int:
    """Bytes of RAM that a process has held at most; 0 for one that has ended."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


FEED = """
import hashlib, os, sys
digest = hashlib.sha256()
for _ in range(int(sys.argv[1])):
    data = os.urandom(1 << 20)
    digest.update(data)
    sys.stdout.buffer.write(data)
print(digest.hexdigest(), file=sys.stderr)
"""


@pytest.mark.slow
def test_three_thousand_mebibytes_go_through_little_memory(stack: Stack) -> None:
    name = stack.prefix + "big"
    with (
        subprocess.Popen(
            [sys.executable, "-c", FEED, "3000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as feed,
        subprocess.Popen([COMMAND, "upload", "-", name], stdin=feed.stdout, env=stack.environment()) as running,
    ):
        assert feed.stdout is not None
        assert feed.stderr is not None
        feed.stdout.close()
        peaks = [0]

        def ended() -> bool:
            # It only grows, so the last that is seen is the most there was; of a process that has ended there is none.
            peaks.append(peak_memory(running.pid) or peaks[-1])
            return running.poll() is not None

        until("the stream's end", ended, within=900)
        digest = feed.stderr.read().strip()
    assert running.returncode == 0
    assert 0 < peaks[-1] < 100 * MIB
    assert stack.run("download", name, "big").returncode == 0
    with (stack.folder / "big").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest
    assert (stack.folder / "big").stat().st_size == 3000 * MIB
    (stack.folder / "big").unlink()
