"""`kill -9` in the middle of an upload costs at most the parts in flight; memory stays small at any size."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from putgate.upload.source import RACY_NS, change_key
from putgate_protocol.digests import FileHash, PartHash
from putgate_protocol.parts import PartPlan
from tests.client.stack import MIB, Stack, a_stack, the_servers  # noqa: F401
from tests.servers.proxy_calls import Call

PART = 8 * MIB
CONCURRENCY = 16
MOST_MEMORY = 100 * MIB


def part_put(call: Call) -> bool:
    return call.kind == "UploadPart" and call.presigned


def stored(call: Call) -> bool:
    return part_put(call) and call.status == 200


def peak(process: subprocess.Popen[str]) -> int:
    """The most memory a running process has held, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def aged(path: Path) -> Path:
    """What was changed a moment ago is not remembered, and a change time cannot be set: wait until it is old."""
    deadline = time.monotonic() + 10
    while time.time_ns() - path.stat().st_ctime_ns <= RACY_NS:
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)
    return path


def killed_in_the_middle(stack: Stack, path: Path, name: str) -> None:
    count = PartPlan(size=path.stat().st_size, part_size=PART).count
    process = stack.start("upload", path, "--to", name)
    stack.store.wait_until(lambda proxy: len([call for call in proxy.requests if stored(call)]) >= count // 2, 600)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    stack.store.wait_idle()


def resumed_run_sends_only_the_rest(stack: Stack, path: Path) -> None:
    name = stack.prefix + "big"
    size = path.stat().st_size
    plan = PartPlan(size=size, part_size=PART)
    killed_in_the_middle(stack, path, name)
    held = len({call.part_number for call in stack.store.requests if stored(call)})
    assert held < plan.count, "the upload was over before it was killed"

    stack.store.reset()
    process = stack.start("upload", path, "--to", name, "--json")
    peaks: list[int] = []
    stack.store.on(part_put, lambda call: peaks.append(peak(process)))
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    assert '"status": "uploaded"' in out
    assert stack.store.put_body_bytes <= (plan.count - held + CONCURRENCY) * PART
    assert 0 < max(peaks) < MOST_MEMORY

    assert list((stack.folder / "state" / "putgate" / "uploads").iterdir()) == []
    stack.store.reset()
    again = stack.run("upload", path, "--to", name)
    assert again.stdout.startswith("exists"), again.stderr
    assert stack.store.put_body_bytes == 0
    identical(stack, path, name)
    assert stack.open_uploads() == []


def identical(stack: Stack, path: Path, name: str) -> None:
    target = stack.folder / "out"
    done = stack.run("download", name, target)
    assert done.returncode == 0, done.stderr
    parts = []
    with path.open("rb") as here, target.open("rb") as there:
        while piece := here.read(PART):
            assert there.read(PART) == piece
            parts.append(PartHash.of(piece))
        assert there.read() == b""
    checksum = FileHash.of(parts)
    client: Any = stack.api.store.client()
    try:
        head = client.head_object(Bucket=stack.api.store.bucket, Key=stack.api.prefix + name, ChecksumMode="ENABLED")
    finally:
        client.close()
    assert head["ChecksumSHA256"] == f"{checksum.base64}-{len(parts)}"


@pytest.mark.slow
def test_400_mib_killed_in_the_middle(stack: Stack) -> None:
    resumed_run_sends_only_the_rest(stack, stack.file(400 * MIB + 5))


def test_many_files_of_one_part_need_little_memory(stack: Stack) -> None:
    files = [stack.file(PART, f"{number:02}") for number in range(15)]
    process = stack.start("upload", *files, "--to", stack.prefix)
    peaks: list[int] = []
    stack.store.on(lambda call: call.kind == "PutObject" and call.presigned, lambda call: peaks.append(peak(process)))
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert len(peaks) == len(files)
    assert max(peaks) < MOST_MEMORY


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_1_gib_killed_in_the_middle(stack: Stack) -> None:
    resumed_run_sends_only_the_rest(stack, stack.file(1024 * MIB))


@pytest.mark.slow
def test_a_restart_does_not_hash_again(stack: Stack) -> None:
    path = aged(stack.file(400 * MIB))
    name = stack.prefix + "big"
    killed_in_the_middle(stack, path, name)
    state = stack.folder / "state" / "putgate" / "uploads"
    assert len(list(state.iterdir())) == 1
    assert change_key(path.stat()) in next(state.iterdir()).read_text()
    # Half is stored and hashed already; hashing all of it again would read more than the whole file.
    assert _bytes_read_of(stack, path, name) < 0.75 * path.stat().st_size + CONCURRENCY * PART


def _bytes_read_of(stack: Stack, path: Path, name: str) -> int:
    """Bytes that a run of the command reads before its complete."""
    process = stack.start("upload", path, "--to", name)
    read: list[int] = []

    def look(call: Call) -> None:
        text = Path(f"/proc/{process.pid}/io").read_text()
        found = re.search(r"rchar: (\d+)", text)
        assert found
        read.append(int(found[1]))

    stack.calls.on(lambda call: call.kind == "complete_multipart_upload", look)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return read[0]


def test_ctrl_c_ends_quietly_and_the_next_run_goes_on(stack: Stack) -> None:
    path = stack.file(200 * MIB)
    name = stack.prefix + "big"
    process = stack.start("upload", path, "--to", name)
    stack.store.wait_until(lambda proxy: len([call for call in proxy.requests if stored(call)]) >= 5, 60)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.strip().endswith("interrupted; the same command goes on where this one stopped")
    held = len([call for call in stack.store.requests if stored(call)])
    stack.store.wait_idle()
    stack.store.reset()
    assert stack.run("upload", path, "--to", name).returncode == 0
    assert stack.store.put_body_bytes <= 200 * MIB - (held - CONCURRENCY) * PART
