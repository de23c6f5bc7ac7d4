"""A server that does not answer holds no file in the engine for ever: it fails, is shown, and is tried again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from putgate import retry
from putgate.options import Options
from putgate_daemon import plan
from putgate_daemon import run as daemon
from putgate_daemon.journal import report
from putgate_daemon.journal.records import Failure
from putgate_protocol.settings.daemon import DaemonSettings
from tests.servers.ports import free_port


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "Options", partial(Options, silence=timedelta(milliseconds=20)))
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(plan, "FIRST_RETRY", 0.01)


class Silent:
    """Takes every connection and says nothing on it."""

    def __init__(self) -> None:
        self.connections = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.read()
        writer.close()


@pytest.fixture
async def silent() -> AsyncIterator[tuple[Silent, int]]:
    made = Silent()
    async with await asyncio.start_server(made.take, "127.0.0.1", 0) as server:
        yield made, server.sockets[0].getsockname()[1]


class Running:
    """A daemon with one file in its folder."""

    def __init__(self, journal: Path, task: asyncio.Task[None]) -> None:
        self._journal = journal
        self._task = task

    def failures(self) -> list[Failure]:
        roots = report.read(self._journal) or []
        return [failure for root in roots for failure in root.failures.values()]

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline
            assert not self._task.done()
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(home: Path, port: int) -> AsyncIterator[Running]:
    folder = home / "in"
    folder.mkdir()
    (folder / "file").write_text("content")
    settings = DaemonSettings.model_validate(
        {
            "server": {"url": f"http://127.0.0.1:{port}"},
            "journal": home / "journal",
            "folders": [{"path": folder, "settle": "0s"}],
        }
    )
    stop = asyncio.Event()
    task = asyncio.create_task(daemon.run(settings, home / "config", stop))
    it = Running(home / "journal", task)
    try:
        await it.until(lambda: bool(report.read(home / "journal")))
        yield it
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)


async def test_a_file_that_keeps_failing_leaves_the_engine_is_shown_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "ENGINE_PATIENCE", timedelta(0))
    async with running(tmp_path, free_port()) as it:
        await it.until(lambda: [failure.attempts for failure in it.failures()] > [1])
        assert [failure.code for failure in it.failures()] == ["unreachable"]


async def test_so_does_one_whose_server_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: tuple[Silent, int]
) -> None:
    monkeypatch.setattr(daemon, "ENGINE_PATIENCE", timedelta(0))
    server, port = silent
    async with running(tmp_path, port) as it:
        await it.until(lambda: [failure.attempts for failure in it.failures()] > [1])
        assert {failure.code for failure in it.failures()} == {"unreachable"}
        assert all(": no sign of life for too long (request " in failure.detail for failure in it.failures())
    assert server.connections >= 2 * retry.LEAST_TRIES


async def test_until_then_it_keeps_its_place(tmp_path: Path, silent: tuple[Silent, int]) -> None:
    server, port = silent
    async with running(tmp_path, port) as it:
        await it.until(lambda: server.connections > 2 * retry.LEAST_TRIES)
        assert it.failures() == []
