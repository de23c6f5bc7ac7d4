"""The budget of bytes: never overdrawn, never lost, first come first served."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from putgate.upload.means import Budget


@given(st.lists(st.tuples(st.integers(0, 150), st.booleans()), max_size=30))
async def test_never_overdrawn_and_all_comes_back(wishes: list[tuple[int, bool]]) -> None:
    budget = Budget(100)
    held = 0

    async def use(wanted: int) -> None:
        nonlocal held
        got = await budget.take(wanted)
        held += got
        assert held <= 100
        await asyncio.sleep(0)
        held -= got
        budget.give(got)

    tasks = [asyncio.create_task(use(wanted)) for wanted, _ in wishes]
    await asyncio.sleep(0)
    for task, (_, cancelled) in zip(tasks, wishes, strict=True):
        if cancelled and not task.done() and held == 0:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await asyncio.wait_for(budget.take(100), 1) == 100


async def test_a_large_wish_is_not_overtaken() -> None:
    budget = Budget(10)
    await budget.take(6)
    order: list[str] = []

    async def want(label: str, count: int) -> None:
        await budget.take(count)
        order.append(label)

    tasks = [asyncio.create_task(want("large", 9)), asyncio.create_task(want("small", 1))]
    await asyncio.sleep(0)
    assert order == []
    budget.give(6)
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]


@pytest.mark.parametrize("granted", [False, True])
async def test_who_is_cancelled_while_waiting_holds_nothing(granted: bool) -> None:
    budget = Budget(10)
    await budget.take(10)
    waiting = asyncio.create_task(budget.take(5))
    await asyncio.sleep(0)
    if granted:
        budget.give(10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not granted:
        budget.give(10)
    assert await asyncio.wait_for(budget.take(10), 1) == 10
