"""Wrappers: what they do to calls, and that a store keeps exactly its abilities inside them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

import pytest

from putgate_storage.errors import ConditionFailed, Permanent, Refused, Transient
from putgate_storage.memory import MemoryStore
from putgate_storage.store import (
    AllowsOrigins,
    CopiesParts,
    DeletesIfMatch,
    ExpiresUploads,
    FinishedPart,
    IfAbsent,
    ListsUploads,
    ManagesBucket,
    ObjectHeaders,
    Probeable,
    Store,
)
from putgate_storage.wrap.deadline import deadlined
from putgate_storage.wrap.limit import limited
from putgate_storage.wrap.meter import metered
from putgate_storage.wrap.retry import Patience, retrying
from putgate_storage.wrap.wrapped import Operation, wrap

T = TypeVar("T")
ABILITIES = (ListsUploads, CopiesParts, DeletesIfMatch, ManagesBucket, ExpiresUploads, AllowsOrigins, Probeable)


class CoreOnly:
    """The core of a store, and nothing beside it."""

    def __init__(self) -> None:
        inner = MemoryStore()
        for name in ("head", "put_small", "delete", "list", "aclose", "create_upload", "now", "reserves", "limits"):
            setattr(self, name, getattr(inner, name))


class Faults:
    """Fails the first calls, before or after they are done."""

    def __init__(self, *errors: Exception, after: bool = False) -> None:
        self.errors = list(errors)
        self.after = after
        self.calls: list[str] = []

    async def __call__(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        self.calls.append(operation.name)
        if not self.errors:
            return await call()
        error = self.errors.pop(0)
        if self.after:
            await call()
        raise error


def transient(delay: float | None = None) -> Transient:
    return Transient("for a moment", code="SlowDown", delay=delay)


def patient(inner: Store, attempts: int = 4) -> Store:
    return retrying(inner, Patience(attempts=attempts, first_wait=0.001, longest_wait=0.002))


@pytest.mark.parametrize("make", [MemoryStore, CoreOnly])
def test_abilities_are_those_of_the_inner_store(make: Callable[[], Store]) -> None:
    inner = make()
    outer = retrying(limited(metered(inner, lambda *_: None), 4))
    for ability in ABILITIES:
        assert isinstance(outer, ability) == isinstance(inner, ability), ability
    if isinstance(outer, Probeable):
        assert [isinstance(outer.probe_view(), ability) for ability in ABILITIES] == [
            isinstance(inner, ability) for ability in ABILITIES
        ]


async def test_an_ability_works_through_wrappers() -> None:
    outer = retrying(limited(MemoryStore(), 2))
    assert isinstance(outer, DeletesIfMatch)
    etag = await outer.put_small("x", b"1")
    assert isinstance(outer, CopiesParts)
    upload = await outer.create_upload("y", ObjectHeaders())
    assert (await outer.copy_part(upload, 1, "x", span=None, source_etag=etag)).etag == etag
    await outer.delete_if_match("x", etag)
    assert await outer.head("x") is None


async def test_each_page_of_open_uploads_is_a_call_of_its_own() -> None:
    """So that a deadline, and a retry, is of a page and not of all that a bucket has open."""
    memory, faults = MemoryStore(), Faults()
    for at in range(2001):
        await memory.create_upload(f"{at}", ObjectHeaders())
    outer = patient(wrap(memory, faults))
    assert isinstance(outer, ListsUploads)
    faults.errors = [transient()]
    assert len({found.upload.upload_id for found in await outer.list_uploads("")}) == 2001
    assert faults.calls == ["list_uploads"] * 4


# --- retry ---


async def test_what_is_transient_is_tried_again() -> None:
    faults = Faults(transient(), transient())
    store = patient(wrap(MemoryStore(), faults))
    await store.put_small("x", b"1")
    assert faults.calls == ["put_small"] * 3


async def test_attempts_are_bounded() -> None:
    faults = Faults(*(transient() for _ in range(20)))
    with pytest.raises(Transient):
        await patient(wrap(MemoryStore(), faults), attempts=3).head("x")
    assert faults.calls == ["head"] * 3


@pytest.mark.parametrize("error", [Refused("no", code="X"), Permanent("never", code="X")])
async def test_what_is_final_is_not_tried_again(error: Exception) -> None:
    faults = Faults(error)
    with pytest.raises(type(error)):
        await patient(wrap(MemoryStore(), faults)).head("x")
    assert faults.calls == ["head"]


async def test_what_must_not_happen_twice_is_not_tried_again() -> None:
    inner = MemoryStore()
    upload = await inner.create_upload("x", ObjectHeaders())
    parts = [FinishedPart(number=1, etag="e")]
    calls: list[Callable[[Store], Awaitable[object]]] = [
        lambda store: store.create_upload("x", ObjectHeaders()),
        lambda store: store.put_small("x", b"1", condition=IfAbsent()),
        lambda store: store.complete(upload, parts),
        lambda store: store.complete(upload, parts, IfAbsent()),
    ]
    for call in calls:
        faults = Faults(transient())
        with pytest.raises(Transient):
            await call(patient(wrap(inner, faults)))
        assert len(faults.calls) == 1


async def test_a_lost_answer_to_a_plain_put_is_harmless() -> None:
    inner = MemoryStore()
    await patient(wrap(inner, Faults(transient(), after=True))).put_small("x", b"1")
    assert inner.objects["x"].body == b"1"


async def test_a_store_that_asks_for_too_long_is_not_waited_for() -> None:
    faults = Faults(transient(delay=60))
    with pytest.raises(Transient) as raised:
        await patient(wrap(MemoryStore(), faults)).head("x")
    assert raised.value.delay == 60
    assert faults.calls == ["head"]


async def test_the_wait_that_the_store_asks_for_is_kept() -> None:
    faults = Faults(transient(delay=0.15))
    store = retrying(wrap(MemoryStore(), faults), Patience(first_wait=0.001), jitter=lambda: 0.0)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await store.head("x")
    assert loop.time() - begun >= 0.14
    assert faults.calls == ["head"] * 2


async def test_no_jitter_at_all_still_retries() -> None:
    faults = Faults(transient())
    await retrying(wrap(MemoryStore(), faults), jitter=lambda: 0.0).head("x")
    assert faults.calls == ["head"] * 2


async def test_the_first_call_counts_in_the_time_that_there_is() -> None:
    faults = Faults(transient(), transient())
    with pytest.raises(Transient):
        await retrying(wrap(MemoryStore(), faults), Patience(total=0.0), jitter=lambda: 0.0).head("x")
    assert faults.calls == ["head"]


# --- limit ---


class Gate:
    """Holds every call until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.inside = 0
        self.most = 0
        self.entered = asyncio.Semaphore(0)

    async def __call__(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.release()
        await self.open.wait()
        self.inside -= 1
        return await call()


async def test_only_so_many_calls_are_with_the_store() -> None:
    gate = Gate()
    store = limited(wrap(MemoryStore(), gate), 3)
    tasks = [asyncio.create_task(store.head("x")) for _ in range(10)]
    for _ in range(3):
        await gate.entered.acquire()
    assert gate.inside == 3
    gate.open.set()
    await asyncio.gather(*tasks)
    assert gate.most == 3


async def test_a_cancelled_call_gives_its_place_back() -> None:
    gate = Gate()
    store = limited(wrap(MemoryStore(), gate), 1)
    first = asyncio.create_task(store.head("x"))
    await gate.entered.acquire()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.open.set()
    assert await store.head("x") is None


def test_a_limit_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="never"):
        limited(MemoryStore(), 0)


# --- meter ---


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (ConditionFailed("x", code="x"), "condition_failed"),
        (Refused("x", code="x"), "refused"),
        (transient(), "transient"),
        (Permanent("x", code="x"), "permanent"),
    ],
)
async def test_every_outcome_is_observed(error: Exception | None, outcome: str) -> None:
    seen: list[tuple[str, str, float]] = []
    faults = Faults(*([error] if error else []))
    store = metered(wrap(MemoryStore(), faults), lambda *what: seen.append(what))
    if error is None:
        await store.head("x")
    else:
        with pytest.raises(type(error)):
            await store.head("x")
    ((operation, found, seconds),) = seen
    assert (operation, found) == ("head", outcome)
    assert 0 <= seconds < 5


async def test_a_cancelled_call_is_observed() -> None:
    seen: list[str] = []
    gate = Gate()
    store = metered(wrap(MemoryStore(), gate), lambda _operation, outcome, _seconds: seen.append(outcome))
    task = asyncio.create_task(store.head("x"))
    await gate.entered.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]


class Hanging(CoreOnly):
    """Heads never come back."""

    def __init__(self) -> None:
        super().__init__()
        self.head = self.never

    async def never(self, key: str) -> None:
        await asyncio.Event().wait()


async def test_a_call_that_hangs_is_cut_off_as_transient() -> None:
    store = deadlined(cast("Store", Hanging()), 0.05)
    with pytest.raises(Transient) as raised:
        await store.head("k")
    assert raised.value.code == "DeadlineExceeded"
    await store.put_small("k", b"x")
