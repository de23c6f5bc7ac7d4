"""kopf runs apart, hands events over, and its end is noticed: asked for it is no failure, otherwise it is one."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import kopf
import pytest

from putgate_operator.errors import WatchesEnded
from putgate_operator.handlers import Watching
from putgate_operator.seen import Place, Seen
from putgate_operator.watches import Watches


async def until_stopped(**options: Any) -> None:
    options["ready_flag"].set()
    await asyncio.to_thread(options["stop_flag"].wait)


async def fails(**_: Any) -> None:
    raise RuntimeError("no cluster")


async def ends(**_: Any) -> None:
    return None


def watches(ended: asyncio.Event) -> Watches:
    told: list[Place] = []
    return Watches(Watching(Seen(), told.append, namespaces=True), (), ended.set)


async def test_asked_to_end_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kopf, "operator", until_stopped)
    ended = asyncio.Event()
    running = watches(ended)
    running.start()
    async with asyncio.timeout(60):
        while running.why_not_ready() is not None:
            await asyncio.sleep(0.01)
    assert not ended.is_set()
    await running.stop()
    async with asyncio.timeout(60):
        await ended.wait()
    assert running.why_not_ready() == "the watches have ended"


@pytest.mark.parametrize("operator", [fails, ends])
async def test_an_end_by_themselves_is_a_failure(monkeypatch: pytest.MonkeyPatch, operator: Any) -> None:
    monkeypatch.setattr(kopf, "operator", operator)
    ended = asyncio.Event()
    running = watches(ended)
    running.start()
    async with asyncio.timeout(60):
        await ended.wait()
    await asyncio.to_thread(running._thread.join, 60)
    with pytest.raises(WatchesEnded):
        await running.stop()


async def test_events_run_in_the_callers_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kopf, "operator", until_stopped)
    running = watches(asyncio.Event())
    where: list[threading.Thread] = []
    noted = asyncio.Event()

    def note() -> None:
        where.append(threading.current_thread())
        noted.set()

    await asyncio.to_thread(running._deliver, note)
    async with asyncio.timeout(60):
        await noted.wait()
    assert where == [threading.main_thread()]
