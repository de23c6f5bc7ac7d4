"""A server that never answers holds no file in the engine for ever: it fails, is shown, and is tried again."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest

from putgate import retry
from putgate_daemon import run as daemon
from putgate_daemon.journal import report
from putgate_protocol.settings.daemon import DaemonSettings
from tests.servers.ports import free_port


async def test_a_file_that_keeps_failing_leaves_the_engine_and_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "ENGINE_PATIENCE", timedelta(0))
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.001)
    folder, journal = tmp_path / "in", tmp_path / "journal"
    folder.mkdir()
    (folder / "file").write_text("content")
    settings = DaemonSettings.model_validate(
        {
            "server": {"url": f"http://127.0.0.1:{free_port()}"},
            "journal": journal,
            "folders": [{"path": folder, "settle": "0s"}],
        }
    )
    stop = asyncio.Event()
    running = asyncio.create_task(daemon.run(settings, tmp_path / "config", stop))
    deadline = time.monotonic() + 120
    while not (roots := report.read(journal) if journal.exists() else None) or roots[0].failed == 0:
        assert time.monotonic() < deadline
        assert not running.done()
        await asyncio.sleep(0.05)
    assert [failure.code for failure in roots[0].failures.values()] == ["unreachable"]
    stop.set()
    await asyncio.wait_for(running, 60)
