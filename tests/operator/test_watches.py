"""kopf runs apart, hands events over, and begins again when it ends by itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import kopf
import pytest

from putgate_operator import watches as module
from putgate_operator.handlers import Watching
from putgate_operator.seen import Place, Seen
from putgate_operator.watches import Watches


class Kopf:
    """Stands for kopf: `ends` says how each run ends, then it runs until it is stopped."""

    def __init__(self, *ends: Callable[[], None]) -> None:
        self.ends = list(ends)
        self.runs = 0
        self.namespaces: list[list[str]] = []

    async def operator(self, **options: Any) -> None:
        self.runs += 1
        self.namespaces.append(options["namespaces"])
        assert options["clusterwide"] is not bool(options["namespaces"])
        options["ready_flag"].set()
        if self.ends:
            self.ends.pop(0)()
            return
        await asyncio.to_thread(options["stop_flag"].wait)


def fails() -> None:
    raise RuntimeError("no cluster")


def ends() -> None:
    return None


def watches(begun_again: asyncio.Event, namespace: str | None = None) -> Watches:
    told: list[Place] = []
    return Watches(Watching(Seen(), told.append, namespaces=True), namespace, begun_again.set)


async def until_ready(running: Watches) -> None:
    async with asyncio.timeout(60):
        while running.why_not_ready() is not None:
            await asyncio.sleep(0.01)


async def test_asked_to_end_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = Kopf()
    monkeypatch.setattr(kopf, "operator", stand_in.operator)
    again = asyncio.Event()
    running = watches(again, "apps")
    assert running.why_not_ready() == "the watches of namespace apps do not run"
    running.start()
    await until_ready(running)
    await running.stop()
    assert running.why_not_ready() is not None
    assert (stand_in.runs, stand_in.namespaces, again.is_set()) == (1, [["apps"]], False)


@pytest.mark.parametrize("end", [fails, ends])
async def test_after_an_end_by_themselves_they_begin_again(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[], None]
) -> None:
    stand_in = Kopf(end, end)
    monkeypatch.setattr(kopf, "operator", stand_in.operator)
    monkeypatch.setattr(module, "FIRST_DELAY", 0.01)
    again = asyncio.Event()
    running = watches(again)
    running.start()
    async with asyncio.timeout(60):
        while stand_in.runs < 3:
            await again.wait()
            await asyncio.sleep(0.01)
    await until_ready(running)
    await running.stop()


async def test_between_two_beginnings_they_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = Kopf(ends)
    monkeypatch.setattr(kopf, "operator", stand_in.operator)
    monkeypatch.setattr(module, "FIRST_DELAY", 1000.0)
    running = watches(asyncio.Event())
    running.start()
    async with asyncio.timeout(60):
        while stand_in.runs < 1:
            await asyncio.sleep(0.01)
        await running.stop()
    assert not running._thread.is_alive()


async def test_events_run_in_the_callers_event_loop() -> None:
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
