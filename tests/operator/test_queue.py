"""Each key once at a time, none lost, failures later and later, due work never behind delayed work."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable

from hypothesis import given
from hypothesis import strategies as st

from putgate_operator.queue import FIRST_DELAY, LAST_DELAY, WorkQueue
from tests.operator.virtual_time import now, run

Work = Callable[[str], Awaitable[float | None]]


async def during(queue: WorkQueue[str], work: Work, seconds: float, workers: int = 2) -> None:
    try:
        async with asyncio.timeout(seconds):
            await queue.run(work, workers=workers)
    except TimeoutError:
        pass


def test_a_key_added_many_times_is_worked_on_once() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        done: list[str] = []

        async def work(key: str) -> None:
            done.append(key)

        for key in "abab":
            queue.add(key)
        await during(queue, work, 1)
        assert sorted(done) == ["a", "b"]
        assert (queue.depth, queue.oldest) == (0, 0)

    run(main())


def test_what_is_added_while_in_work_comes_once_more_and_never_at_the_same_time() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        begun: list[float] = []
        running = 0

        async def work(key: str) -> None:
            nonlocal running
            running += 1
            assert running == 1
            begun.append(now())
            if len(begun) == 1:
                for _ in range(3):
                    queue.add(key)
            await asyncio.sleep(5)
            running -= 1

        queue.add("a")
        await during(queue, work, 60, workers=4)
        assert begun == [0, 5]

    run(main())


def test_one_slow_key_delays_no_other() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        done: dict[str, float] = {}

        async def work(key: str) -> None:
            await asyncio.sleep(100 if key == "slow" else 1)
            done[key] = now()

        queue.add("slow")
        for key in "abc":
            queue.add(key)
        await during(queue, work, 200)
        assert done == {"a": 1, "b": 2, "c": 3, "slow": 100}

    run(main())


def test_failures_come_again_later_and_later_and_success_forgets_them() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue(jitter=lambda: 1.0)
        tried: list[float] = []

        async def work(_: str) -> float | None:
            tried.append(now())
            if len(tried) in {12, 14}:
                return 1000.0
            raise ValueError("not yet")

        queue.add("a")
        await during(queue, work, 5000)
        waits = [round(after - before, 6) for before, after in itertools.pairwise(tried)]
        assert waits[:11] == [min(LAST_DELAY, FIRST_DELAY * 2**n) for n in range(11)]
        assert waits[11:14] == [1000.0, FIRST_DELAY, 1000.0]

    run(main())


def test_sooner_wins() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        done: list[tuple[str, float]] = []

        async def work(key: str) -> None:
            done.append((key, now()))

        queue.add_after("a", 50)
        queue.add_after("a", 10)
        queue.add_after("a", 30)
        queue.add_after("b", 20)
        queue.add_after("gone", 5)
        queue.forget("gone")
        await during(queue, work, 100)
        assert done == [("a", 10), ("b", 20)]

    run(main())


def test_drained_waits_for_what_is_in_work() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        done: list[float] = []

        async def work(_: str) -> None:
            await asyncio.sleep(7)
            done.append(now())

        queue.add("a")
        running = asyncio.create_task(queue.run(work, workers=1))
        await asyncio.sleep(1)
        await queue.drained()
        assert done == [7]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(main())


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 20)), max_size=30),
    st.integers(1, 3),
    st.floats(0, 5),
)
def test_every_key_is_worked_on_after_its_last_addition_was_due(
    added: list[tuple[str, float]], workers: int, takes: float
) -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        begun: Counter[str] = Counter()
        last: dict[str, float] = {}
        running: set[str] = set()

        async def work(key: str) -> None:
            assert key not in running
            running.add(key)
            begun[key] += 1
            last[key] = now()
            await asyncio.sleep(takes)
            running.discard(key)

        async def add() -> None:
            for key, pause in added:
                await asyncio.sleep(pause)
                queue.add(key)

        adding = asyncio.create_task(add())
        await during(queue, work, 2000, workers=workers)
        await adding
        due: dict[str, float] = {}
        at = 0.0
        for key, pause in added:
            at += pause
            due[key] = at
        assert set(begun) == set(due)
        assert all(last[key] >= when - 1e-6 for key, when in due.items())

    run(main())
