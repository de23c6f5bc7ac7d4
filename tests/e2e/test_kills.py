"""Ten clients and two API processes on one bucket, and somebody who keeps killing them: nothing is lost or left."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from tests.api.calls import Calls
from tests.api.state import state_of, store_of
from tests.api.test_janitor_store import own_keys, round_later
from tests.api.test_program import run, written
from tests.e2e.replicas import replica_of
from tests.servers.api import ApiProcess
from tests.servers.seaweedfs import SeaweedFS

CLIENTS = 10
KILLS = 200
PAUSES = (0.2, 1.6)
"""Seconds between two kills, from and to: about what an upload takes, so that each is hit in another place."""

SIZES = (4096, 300_000, 9_000_000, 20_000_000)
COMMAND = Path(sys.executable).with_name("putgate")


@dataclass(kw_only=True)
class Uploader:
    """One client after another, each going on with the file that its predecessor was killed at."""

    apis: tuple[ApiProcess, ApiProcess]
    folder: Path
    number: int
    dice: random.Random
    sent: dict[str, bytes] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    waiting: deque[str] = field(default_factory=deque)

    def more(self) -> None:
        """Another file to upload."""
        name = f"{self.number}/{len(self.sent):04}"
        size = self.dice.choice(SIZES)
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = self.dice.randbytes(size)
        path.write_bytes(data)
        self.sent[name] = hashlib.sha256(data).digest()
        self.waiting.append(name)

    def tick(self, *, more: bool) -> None:
        """Let a client be at work, as long as there is something to do."""
        if self.process is not None and self.process.poll() is None:
            return
        if self.process is not None and self.process.returncode == 0:
            self._path(self.waiting.popleft()).unlink()
        self.process = None
        if not self.waiting and more:
            self.more()
        if self.waiting:
            self.process = self._started(self.waiting[0])

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    def done(self) -> bool:
        return not self.waiting and self.process is None

    def _path(self, name: str) -> Path:
        return self.folder / "files" / name

    def _started(self, name: str) -> subprocess.Popen[bytes]:
        api = self.dice.choice(self.apis)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PUTGATE_", "XDG_"))}
        environment |= {
            "PUTGATE_SERVER": api.url,
            "PUTGATE_TOKEN": api.token,
            "XDG_STATE_HOME": str(self.folder / "state" / str(self.number)),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
        }
        with (self.folder / f"client-{self.number}.log").open("ab") as log:
            return subprocess.Popen(
                [COMMAND, "upload", self._path(name), "--to", name],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            )  # fmt: skip


@pytest.fixture
def apis(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> Iterator[tuple[ApiProcess, ApiProcess]]:
    one = ApiProcess(tmp_path / "one", seaweedfs, prefix=prefix)
    other = replica_of(one, tmp_path / "other")
    one.start()
    other.start()
    yield one, other
    one.kill()
    other.kill()


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_200_kills_lose_nothing_and_leave_nothing(
    apis: tuple[ApiProcess, ApiProcess], tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    dice = random.Random(20_261_123)
    uploaders = [
        Uploader(apis=apis, folder=tmp_path, number=number, dice=random.Random(number)) for number in range(CLIENTS)
    ]
    try:
        for _ in range(KILLS):
            for uploader in uploaders:
                uploader.tick(more=True)
            await asyncio.sleep(dice.uniform(*PAUSES))
            if dice.random() < 0.25:
                api = dice.choice(apis)
                api.kill()
                api.start(wait=False)
            else:
                dice.choice(uploaders).kill()
        async with asyncio.timeout(900):
            while not all(uploader.done for uploader in uploaders):
                for uploader in uploaders:
                    uploader.tick(more=False)
                await asyncio.sleep(0.1)
    finally:
        for uploader in uploaders:
            uploader.kill()
    await check(apis[0], {name: found for uploader in uploaders for name, found in uploader.sent.items()}, http)


async def check(api: ApiProcess, sent: dict[str, bytes], http: aiohttp.ClientSession) -> None:
    """Every file is there and as it was, fsck is content, and what was left of uploads goes."""
    assert len(sent) > CLIENTS
    calls = Calls(http, api.url, api.token)
    for name, digest in sent.items():
        assert hashlib.sha256(await calls.download(name)).digest() == digest, name
    done = await asyncio.to_thread(run, "fsck", "--config", written(api), "--rehash")
    assert (done.returncode, f"{len(sent)} files of" in done.stdout) == (0, True), done.stdout + done.stderr
    async with store_of(api) as store:
        tally = await round_later(store, api.prefix, timedelta(days=8))
        assert tally.counts["failed"] == 0
        await round_later(store, api.prefix, timedelta(days=16))
        state = await state_of(store, api.prefix)
    assert state.uploads == ()
    assert sorted(state.names(api.prefix)) == sorted(sent)
    left = [key for key in own_keys([key for key, _ in state.keys]) if "/.putgate/v1/sessions/" in f"/{key}"]
    assert left == []
