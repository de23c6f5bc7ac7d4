"""Bad lines and bad stores between the client, the daemon, the API and the store: everything arrives, as it was, once
the fault is over or in spite of it, and nobody hammers what is down.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from tests.api.calls import Calls
from tests.api.state import state_of, store_of
from tests.api.test_janitor_store import round_later
from tests.api.test_program import run, written
from tests.daemon.program import Stack, fill, stack
from tests.servers.proxy import StoreProxy
from tests.servers.proxy_calls import Call
from tests.servers.proxy_faults import Answer, Cut, CutAnswer, CutBefore, Fault, LoseAnswer
from tests.servers.seaweedfs import SeaweedFS

MIB = 1024 * 1024
COMMAND = Path(sys.executable).with_name("putgate")
SMALL, LARGE = 120, (6 * MIB, 17 * MIB, 25 * MIB)

EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


@pytest.fixture
def home(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> Iterator[Stack]:
    with stack(tmp_path, seaweedfs, prefix) as made:
        yield made


def start(home: Stack, *arguments: str | Path) -> subprocess.Popen[str]:
    """The command, in the folder that the daemon looks at."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PUTGATE_", "XDG_"))}
    return subprocess.Popen(
        [COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=home.folder,
        env=kept | {"PUTGATE_SERVER": home.to_api.url, "PUTGATE_TOKEN": home.api.token, "HOME": str(home.home)},
    )


def command(home: Stack, *arguments: str | Path) -> str:
    process = start(home, *arguments)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return said


def some_files(folder: Path) -> None:
    fill(folder, SMALL)
    for number, size in enumerate(LARGE):
        (folder / f"large-{number}").write_bytes(os.urandom(size))


def chance(one_in: int, seed: int) -> Callable[[Call], bool]:
    dice = random.Random(seed)
    return lambda call: dice.randrange(one_in) == 0


async def left_nothing(home: Stack) -> None:
    """Everything is as it was uploaded; what failed attempts left behind goes, and nothing else does."""
    for proxy in (home.to_store, home.to_api):
        proxy.heal()
    stored = home.stored()
    async with store_of(home.api) as store:
        await round_later(store, home.api.prefix, timedelta(days=8))
        tally = await round_later(store, home.api.prefix, timedelta(days=16))
        assert tally.counts["failed"] == 0
        assert (await state_of(store, home.api.prefix)).uploads == ()
    assert home.stored() == stored
    done = run("fsck", "--config", written(home.api), "--rehash")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        LoseAnswer(),
        CutBefore(),
        Cut(after_bytes=1000),
        CutAnswer(after_bytes=10),
        Answer(status=503, body=SLOW_DOWN),
        Answer(status=500),
    ],
    ids=lambda fault: type(fault).__name__ + str(getattr(fault, "status", "")),
)
@pytest.mark.parametrize("who", ["command", "daemon"])
async def test_one_call_in_twenty_fails(home: Stack, who: str, fault: Fault) -> None:
    """Between the client and the API, the client and the store, the API and the store."""
    some_files(home.folder)
    home.to_store.rule(chance(20, 1), fault)
    # A 500 of the API itself is final; what stands in front of it says 502.
    home.to_api.rule(chance(20, 2), Answer(status=502) if fault == Answer(status=500) else fault)
    if who == "command":
        command(home, "upload", "-r", ".", "--to", "in/")
    else:
        daemon = home.once()
        assert daemon.process.returncode == 0, daemon.tail()
    home.assert_identical()
    # 120 PUTs, 8 parts, their sessions and records: about 200 calls without a fault, and a fault is not paid for twice.
    assert home.to_store.total < 400, home.to_store.counts
    assert home.to_api.total < 60, home.to_api.counts
    await left_nothing(home)


@pytest.mark.slow
def test_a_store_that_asks_for_time_is_given_it(home: Stack) -> None:
    (home.folder / "large").write_bytes(os.urandom(17 * MIB))
    asked: list[float] = []

    def overloaded(call: Call) -> bool:
        if not call.presigned or len(asked) >= 6:
            return False
        asked.append(time.monotonic())
        return True

    home.to_store.rule(overloaded, Answer(status=503, retry_after=2, body=SLOW_DOWN))
    command(home, "upload", "large", "--to", "in/large")
    home.assert_identical()
    # Three parts were sent at once, and each again after no less than two seconds.
    assert len(asked) == 6
    assert asked[3] - asked[0] >= 2


@pytest.mark.slow
def test_a_line_of_256_kbit(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> None:
    """Nothing is sent twice, or given up for being slow."""
    with (
        stack(tmp_path, seaweedfs, prefix) as home,
        StoreProxy(home.to_store.url, bytes_per_second=32_000) as line,
    ):
        home.api.prefix += "slow/"  # where no other part size holds yet
        home.api.settings["storage"]["prefix"] = home.api.prefix
        home.api.settings["storage"]["s3"]["public_endpoint"] = line.url
        home.api.settings["upload"] = {"part_size": "5Mi"}
        home.api.restart()
        (home.folder / "parts").write_bytes(os.urandom(5 * MIB + 500_000))
        (home.folder / "one").write_bytes(os.urandom(500_000))
        began = time.monotonic()
        command(home, "upload", "-r", ".", "--to", "in/")
        home.assert_identical()
        sent = 5 * MIB + 1_000_000
        assert line.put_body_bytes == sent
        assert time.monotonic() - began >= sent / 32_000


@pytest.mark.slow
async def test_an_outage_of_a_minute(home: Stack) -> None:
    """The store and the API are away for a client and a daemon in the middle of their uploads."""
    some_files(home.folder)
    apart = home.home / "apart"
    apart.mkdir()
    (apart / "file").write_bytes(os.urandom(90 * MIB))
    down = threading.Event()

    def outage(call: Call) -> None:
        down.set()

    home.to_store.on(lambda call: call.presigned and home.to_store.put_body_bytes > 20 * MIB, outage, times=1)
    daemon = home.daemon("run")
    process = start(home, "upload", apart / "file", "--to", "apart/file")
    assert down.wait(120)
    for proxy in (home.to_store, home.to_api):
        proxy.set_down(True)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(60)
    assert daemon.process.poll() is None
    attempts = home.to_store.broken, home.to_api.broken
    for proxy in (home.to_store, home.to_api):
        proxy.set_down(False)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    daemon.wait_for("uploaded", count=SMALL + len(LARGE), timeout=300)
    assert daemon.stop() == 0
    print(f"{attempts} attempts")  # noqa: T201 - what was measured
    # Each of 16 connections of either doubles its pauses up to 20 s: a dozen attempts each, and no more.
    assert attempts[0] < 2 * 16 * 20
    assert attempts[1] < 200
    assert home.content("apart/file") == (apart / "file").read_bytes()
    home.assert_identical(without={"apart/file"})
    await left_nothing(home)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "ExpiredToken"), (403, "ExpiredToken"), (403, "InvalidAccessKeyId")],
)
def test_credentials_that_end_before_the_url(home: Stack, status: int, code: str) -> None:
    """Whatever is signed with them is refused, for longer than five tries take, until the server has others."""
    (home.folder / "large").write_bytes(os.urandom(17 * MIB))
    fill(home.folder, 3)
    body = EXPIRED.replace(b"ExpiredToken", code.encode())
    seen: list[Call] = []
    renewed = threading.Event()

    def outdated(call: Call) -> bool:
        if not call.presigned or renewed.is_set():
            return False
        seen.append(call)
        return True

    home.to_store.rule(outdated, Answer(status=status, body=body))
    threading.Timer(15, renewed.set).start()
    command(home, "upload", "-r", ".", "--to", "in/")
    home.assert_identical()
    # Six requests that were refused for fifteen seconds, each some seven times.
    assert 10 < len(seen) < 80
    # The same part is never sent again under the signature that was refused.
    signed = [call.head.query["X-Amz-Signature"] for call in seen]
    assert len(set(signed)) > len(signed) / 2


@pytest.mark.slow
def test_credentials_that_stay_outdated_are_named(home: Stack) -> None:
    (home.folder / "large").write_bytes(os.urandom(9 * MIB))
    home.to_store.rule(lambda call: call.presigned, Answer(status=400, body=EXPIRED))
    process = start(home, "upload", "large", "--to", "in/large", "--retry-for", "3s")
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "the store answered HTTP 400 ExpiredToken" in said
    assert len(home.to_store.of_kind("UploadPart")) < 40


async def test_a_server_with_outdated_credentials_says_so_and_goes_on(home: Stack, http: aiohttp.ClientSession) -> None:
    calls = Calls(http, home.api.url, home.api.token)
    rule = home.to_store.rule(lambda call: not call.presigned, Answer(status=400, body=EXPIRED))
    status, problem = await calls.initiate("x", b"content")
    assert (status, problem["code"]) == (503, "store_unavailable")
    assert "ExpiredToken" in problem["detail"]
    assert problem["retry_after"] > 0
    rule.times = 0
    assert (await calls.initiate("x", b"content"))[0] == 200


@pytest.mark.slow
def test_a_download_survives_credentials_that_end(home: Stack) -> None:
    data = os.urandom(20 * MIB)
    (home.folder / "large").write_bytes(data)
    command(home, "upload", "large", "--to", "in/large")
    home.to_store.rule(lambda call: call.presigned, Answer(status=400, body=EXPIRED), times=12)
    command(home, "download", "in/large", home.home / "back")
    assert hashlib.sha256((home.home / "back").read_bytes()).digest() == hashlib.sha256(data).digest()
