"""At most one leader at any time, whatever stops, is cut off, or loses its answers; and soon another one."""

from __future__ import annotations

import asyncio
import copy
import itertools
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from putgate_operator.election import LEASE_DURATION, RENEW_DEADLINE, Elector, Watchdog
from putgate_operator.errors import AlreadyExists, Conflict, NotLeader, Unreachable
from putgate_operator.kinds import Kind
from tests.operator.virtual_time import now, run


class Server:
    """The Lease of an API server: compare-and-swap by resourceVersion."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.holders: list[tuple[float, str]] = []

    def write(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        self.holders.append((now(), body["spec"]["holderIdentity"]))
        return copy.deepcopy(self.lease)


class Line:
    """One process's line to the server. `cut`: nothing gets through; `deaf`: requests arrive, answers are lost."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.cut = self.deaf = False

    def _check(self) -> None:
        if self.cut:
            raise Unreachable("cut")

    def _answer(self, value: Any) -> Any:
        if self.deaf:
            raise Unreachable("answer lost")
        return value

    async def get(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
        del kind, namespace, name
        await asyncio.sleep(0.01)
        self._check()
        return self._answer(copy.deepcopy(self._server.lease))  # type: ignore[no-any-return]

    async def create(self, kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
        del kind
        await asyncio.sleep(0.01)
        self._check()
        if self._server.lease is not None:
            raise AlreadyExists("there is one")
        return self._answer(self._server.write(body))  # type: ignore[no-any-return]

    async def replace(self, kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
        del kind
        await asyncio.sleep(0.01)
        self._check()
        lease = self._server.lease
        if lease is None or lease["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise Conflict("changed meanwhile")
        return self._answer(self._server.write(body))  # type: ignore[no-any-return]


class Process:
    """An operator process that writes all the time while it may, and notes when."""

    def __init__(self, server: Server, name: str, writes: list[tuple[float, str]]) -> None:
        self.line = Line(server)
        self.name = name
        self.elector = Elector(self.line, namespace="ns", name="putgate", identity=name, clock=now)
        self._writes = writes
        self.task = asyncio.create_task(self.elector.run(self._work, asyncio.Event()))

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            try:
                self.elector.guard()
            except NotLeader:
                continue
            self._writes.append((now(), self.name))

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def kill(self) -> None:
        """As -9: nothing is released."""
        self.line.cut = True
        self.task.cancel()


def first(writes: list[tuple[float, str]], name: str, after: float = 0.0) -> float:
    return next(at for at, who in writes if who == name and at >= after)


def last(writes: list[tuple[float, str]], name: str) -> float:
    return max(at for at, who in writes if who == name)


def test_who_is_asked_to_stop_while_another_leads_stops_at_once() -> None:
    async def main() -> None:
        server, writes, stop = Server(), list[tuple[float, str]](), asyncio.Event()
        leader = Process(server, "a", writes)
        await asyncio.sleep(1)
        standby = Elector(Line(server), namespace="ns", name="putgate", identity="b", clock=now)
        waiting = asyncio.create_task(standby.run(never, stop))
        await asyncio.sleep(60)
        began = now()
        stop.set()
        await waiting
        assert now() == began
        await leader.stop()

    run(main())


async def never() -> None:
    raise AssertionError("it does not lead")


def test_one_leads_and_a_stop_hands_over_at_once() -> None:
    async def main() -> None:
        server, writes = Server(), list[tuple[float, str]]()
        a = Process(server, "a", writes)
        await asyncio.sleep(1)
        b = Process(server, "b", writes)
        await asyncio.sleep(60)
        assert {who for _, who in writes} == {"a"}
        await a.stop()
        stopped = now()
        await asyncio.sleep(10)
        assert first(writes, "b") - stopped < 4
        await b.stop()
        assert server.lease is not None
        assert server.lease["spec"]["holderIdentity"] == ""
        assert server.lease["spec"]["leaseTransitions"] == 1

    run(main())


@pytest.mark.parametrize("how", ["killed", "cut off"])
def test_a_lost_leader_is_followed_within_twenty_seconds_and_never_writes_beside(how: str) -> None:
    async def main() -> None:
        server, writes = Server(), list[tuple[float, str]]()
        a = Process(server, "a", writes)
        await asyncio.sleep(1)
        b = Process(server, "b", writes)
        await asyncio.sleep(30)
        lost = now()
        if how == "killed":
            a.kill()
        else:
            a.line.cut = True
        await asyncio.sleep(40)
        assert first(writes, "b") - lost < 20
        assert last(writes, "a") < first(writes, "b")
        a.line.cut = False
        await asyncio.sleep(60)
        assert last(writes, "a") < first(writes, "b")
        await a.stop()
        await b.stop()

    run(main())


def test_a_stopped_process_that_goes_on_writes_nothing() -> None:
    async def main() -> None:
        server, writes = Server(), list[tuple[float, str]]()
        a = Process(server, "a", writes)
        await asyncio.sleep(5)
        slept = 30.0
        a.elector._clock = lambda: now() + slept
        with pytest.raises(NotLeader):
            a.elector.guard()
        assert a.elector.overdue
        await a.stop()

    run(main())


def test_an_answer_that_is_lost_costs_nothing() -> None:
    async def main() -> None:
        server, writes = Server(), list[tuple[float, str]]()
        a = Process(server, "a", writes)
        await asyncio.sleep(5)
        a.line.deaf = True
        await asyncio.sleep(5)
        a.line.deaf = False
        await asyncio.sleep(30)
        gaps = [after - before for (before, _), (after, _) in itertools.pairwise(writes)]
        assert max(gaps) < 1
        await a.stop()

    run(main())


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 2), st.sampled_from(["cut", "deaf", "heal"])), max_size=12))
def test_no_two_lead_at_once(troubles: list[tuple[float, int, str]]) -> None:
    async def main() -> None:
        server, writes = Server(), list[tuple[float, str]]()
        processes = [Process(server, name, writes) for name in "abc"]
        for pause, number, trouble in troubles:
            await asyncio.sleep(pause)
            line = processes[number].line
            line.cut, line.deaf = trouble == "cut", trouble == "deaf"
            assert sum(process.elector.leading for process in processes) <= 1
        for process in processes:
            process.line.cut = process.line.deaf = False
        await asyncio.sleep(LEASE_DURATION + 10)
        assert sum(process.elector.leading for process in processes) == 1
        for process in processes:
            await process.stop()
        # Between the last write of one and the first of the next lies the margin for a write under way.
        for (before, one), (after, other) in itertools.pairwise(writes):
            if one != other and not _released(server, before, after):
                assert after - before > LEASE_DURATION - RENEW_DEADLINE - 1

    run(main())


def _released(server: Server, before: float, after: float) -> bool:
    return any(holder == "" and before <= at <= after for at, holder in server.holders)


def test_the_watchdog_ends_a_process_whose_loop_does_not_run() -> None:
    ended = threading.Event()

    class Overdue:
        overdue = True

    watchdog = Watchdog(Overdue(), end=ended.set, period=0.001)  # type: ignore[arg-type]
    watchdog.start()
    assert ended.wait(60)
    watchdog.join(60)
    assert not watchdog.is_alive()
