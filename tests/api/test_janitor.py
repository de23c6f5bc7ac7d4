"""Housekeeping on the in-memory store: what goes and what stays, when, and after a death at any call."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from putgate_api.housekeeping.janitor import Janitor
from putgate_api.housekeeping.tally import Tally
from putgate_api.uploads.abort import abort
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.sign import sign
from putgate_protocol.messages.abort import AbortRequest
from putgate_protocol.messages.sign import SignRequest
from putgate_protocol.settings.api import ApiSettings
from putgate_storage.errors import Transient
from putgate_storage.memory import MemoryStore
from putgate_storage.store import StoreLimits
from putgate_storage.wrap.wrapped import Operation, wrap
from tests.api.leftovers import (
    DATA,
    Before,
    Failing,
    Killed,
    Point,
    Seen,
    content,
    dying,
    killed,
    leave_everything,
    opened,
    round_of,
    seen,
    settings,
)
from tests.api.memory_bucket import PREFIX, Clock, begin, body, bucket, caller, finish, memory_store
from tests.operator.virtual_time import now, run

T = TypeVar("T")

END = Seen(
    files=frozenset({"done", "published"}),
    sessions=frozenset({("published", "done")}),
    others=frozenset({"published.parts"}),
    uploads=(),
)
"""What is left a week later: the files, and the session of one, which was only just found to have succeeded."""


def test_everything_that_is_left_behind_goes_and_the_files_stay() -> None:
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> Tally:
        await leave_everything(store)
        before = await seen(store)
        assert len(before.sessions) == 8
        assert len(before.uploads) == 7
        assert {"published.parts", "copying.copies"} < before.others
        clock.move(days=8)
        return await round_of(bucket(store))

    assert run(scenario()).changed == {
        "expired_uploads": 3,
        "unopened_sessions": 3,
        "done_sessions": 1,
        "finished_uploads": 1,
        "lone_parts": 2,
        "stray_uploads": 1,
        "probe_objects": 1,
        "probe_uploads": 1,
    }
    assert run(seen(store)) == END
    assert (body(store, "done"), body(store, "published")) == (content("done"), content("published"))
    clock.move(days=2)
    assert run(round_of(bucket(store))).changed == {"done_sessions": 1}
    assert run(seen(store)) == Seen(files=END.files, sessions=frozenset(), others=frozenset(), uploads=())


def test_nothing_goes_before_its_time() -> None:
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        await leave_everything(store)
        before = await seen(store)
        assert (await round_of(bucket(store))).changed == {}
        assert await seen(store) == before
        clock.move(minutes=59)
        await round_of(bucket(store))
        after = await seen(store)
        moved = {("published", "completing"), ("published", "done"), ("aborting", "aborting")}
        assert after.sessions ^ before.sessions == moved, "their holders have died"
        assert before.others - after.others == {"aborting.parts"}
        clock.move(hours=23)
        await round_of(bucket(store))
        assert "open" in (await seen(store)).uploads
        assert "stray" in (await seen(store)).uploads

    run(scenario())


@pytest.mark.parametrize("when", ["before", "after"])
def test_it_dies_at_any_call_and_the_next_round_ends_the_same(when: Point) -> None:
    died = 0
    while True:
        died += 1
        clock = Clock()
        store = memory_store(clock)

        async def scenario(at: int, store: MemoryStore = store, clock: Clock = clock) -> bool:
            await leave_everything(store)
            clock.move(days=8)
            try:
                await round_of(dying(store, at, when))
            except Killed:
                # Until the hold of the one that died has lapsed.
                clock.move(seconds=61)
                await round_of(bucket(store))
                assert await seen(store) == END, f"after a death {when} call {at}"
                return True
            return False

        if not run(scenario(died)):
            break
    assert died > 60, "each kind takes several calls"


def test_a_death_between_two_calls_leaves_live_uploads_whole() -> None:
    """Beside the dead, clients go on: with a young upload, and with an old one that they come back to."""
    died = 0
    while True:
        died += 1
        clock = Clock()
        store = memory_store(clock)

        async def scenario(at: int, store: MemoryStore = store, clock: Clock = clock) -> bool:
            served = bucket(store)
            await opened(served, store, "old")
            clock.move(days=2)
            young = await opened(served, store, "young", content("young"))
            ended = True
            try:
                await round_of(dying(store, at, "after"))
            except Killed:
                ended = False
            assert (await finish(served, young)).status == "complete"
            clock.move(seconds=61)
            again = await opened(served, store, "old")
            assert (await finish(served, again)).status == "complete"
            assert (body(store, "old"), body(store, "young")) == (DATA, content("young"))
            assert await store.list_uploads("") == []
            return not ended

        if not run(scenario(died)):
            break
    assert died > 8


def test_a_client_that_comes_back_keeps_its_expired_upload() -> None:
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        served = bucket(store)
        await opened(served, store, "x")
        clock.move(hours=25)
        again = await begin(served, "x", DATA)
        assert again.parts == [], "all of it is there still"
        assert (await round_of(served)).changed == {}
        assert (await finish(served, again)).status == "complete"

    run(scenario())


def test_an_upload_that_is_as_old_as_they_get_stays_until_its_last_part_may_have_come() -> None:
    """Older than any stray may be, and its session has just expired."""
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        served = bucket(store)
        answer = await opened(served, store, "x")
        for _ in range(13):
            clock.move(hours=12)
            await sign(served, caller(), SignRequest(upload_id=answer.upload_id, part_numbers=[1]))
        clock.move(hours=12, minutes=14)
        assert (await round_of(served)).changed == {}
        clock.move(minutes=2)
        assert (await round_of(served)).changed == {"expired_uploads": 1}

    run(scenario())


def test_an_upload_whose_parts_survive_an_abort_is_aborted_again() -> None:
    clock = Clock()
    store = memory_store(clock)
    aborts: list[str] = []

    async def first_in_vain(operation: Operation, call: Callable[[], Awaitable[Any]]) -> Any:
        if operation.name == "abort":
            aborts.append(operation.name)
            if len(aborts) == 1:
                return True
        return await call()

    async def scenario() -> None:
        await opened(bucket(store), store, "x")
        clock.move(days=2)
        assert (await round_of(bucket(wrap(store, first_in_vain)))).changed == {"expired_uploads": 1}
        assert (len(aborts), await store.list_uploads("")) == (2, [])

    run(scenario())


def test_a_hold_is_left_alone_until_it_lapses() -> None:
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        await finish(bucket(store), await opened(bucket(store), store, "x"))
        clock.move(days=2)
        await killed(round_of(dying(store, 1, "before", lambda name: name == "delete")))
        assert (await round_of(bucket(store))).changed == {}
        clock.move(seconds=6)
        assert (await round_of(bucket(store))).changed == {"unopened_sessions": 1}

    run(scenario())


async def leave_done(served: Bucket, store: MemoryStore, clock: Clock) -> None:
    """The record of an upload of "x" that is due, and no file."""
    await finish(served, await opened(served, store, "x"))
    await store.delete(f"{PREFIX}x")
    clock.move(days=2)


async def goes_on(served: Bucket) -> None:
    """The upload of "x" has lost nothing."""
    again = await begin(served, "x", DATA)
    assert again.parts == [], "nothing is sent again"
    assert (await finish(served, again)).status == "complete"


def test_a_session_that_a_client_took_from_a_slow_janitor_stays() -> None:
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        served = bucket(store)
        await leave_done(served, store, clock)

        async def lapses() -> None:
            clock.move(seconds=6)
            await opened(served, store, "x")

        deletes = Before(lambda name: name == "delete", lapses)
        assert (await round_of(bucket(wrap(store, deletes)))).changed == {}
        assert deletes.ran
        await goes_on(served)

    run(scenario())


class _Removals(MemoryStore):
    """Something else happens just before the store removes the first session record."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(limits=StoreLimits(min_part_size=1), clock=clock)
        self.before: Callable[[], Coroutine[Any, Any, None]] | None = None

    async def delete(self, key: str) -> None:
        await self._removed(key)
        await super().delete(key)

    async def delete_if_match(self, key: str, etag: str) -> None:
        await self._removed(key)
        await super().delete_if_match(key, etag)

    async def _removed(self, key: str) -> None:
        if key.endswith(".json") and self.before is not None:
            before, self.before = self.before, None
            await before()


def test_a_removal_that_comes_late_takes_no_record_of_a_live_upload() -> None:
    clock = Clock()
    store = _Removals(clock)

    async def scenario() -> None:
        served = bucket(store)
        await leave_done(served, store, clock)

        async def lapses() -> None:
            clock.move(seconds=6)
            await opened(served, store, "x")

        store.before = lapses
        assert (await round_of(served)).changed == {}
        assert store.before is None
        await goes_on(served)

    run(scenario())


def test_an_abort_that_comes_late_takes_no_record_of_a_live_upload() -> None:
    clock = Clock()
    store = _Removals(clock)

    async def scenario() -> None:
        served = bucket(store)
        answer = await begin(served, "x", DATA)

        async def lapses() -> None:
            clock.move(seconds=61)
            await opened(served, store, "x")

        store.before = lapses
        await abort(served, caller(), AbortRequest(upload_id=answer.upload_id))
        assert store.before is None
        await goes_on(served)

    run(scenario())


def test_without_conditional_deletes_a_removal_that_takes_longer_than_its_hold_is_given_up() -> None:
    clock = Clock()
    store = _Removals(clock)

    async def scenario() -> None:
        served = bucket(store, conditional_delete=False)
        await finish(served, await opened(served, store, "x"))
        clock.move(days=2)
        begun = now()
        store.before = lambda: asyncio.sleep(60)
        assert (await round_of(served)).changed == {"failed": 1}
        assert now() - begun < 5, "no other can have taken the record over"
        assert len((await seen(store)).sessions) == 1
        clock.move(seconds=6)
        assert (await round_of(served)).changed == {"unopened_sessions": 1}
        assert (await seen(store)).sessions == frozenset()

    run(scenario())


def test_two_at_once_do_the_work_of_one() -> None:
    """One begins where the other is, after each of its calls."""
    stopped = 0
    while True:
        stopped += 1
        clock = Clock()
        store = memory_store(clock)

        async def scenario(at: int, store: MemoryStore = store, clock: Clock = clock) -> bool:
            await leave_everything(store)
            clock.move(days=8)
            between = _Between(store, at)
            await round_of(bucket(wrap(store, between)))
            # What one could not take because the other held it is done, or waits for nobody but the clock.
            clock.move(seconds=61)
            await round_of(bucket(store))
            assert await seen(store) == END, f"with another after call {at}"
            return between.met

        if not run(scenario(stopped)):
            break
    assert stopped > 60


class _Between:
    """Lets another janitor do a whole round after a call of this one."""

    def __init__(self, store: MemoryStore, at: int) -> None:
        self._store = store
        self._left = at
        self.met = False

    async def __call__(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        answer = await call()
        self._left -= 1
        if self._left == 0:
            self.met = True
            await round_of(bucket(self._store))
        return answer


# --- trouble, pace, memory ---


def test_one_keys_trouble_does_not_stop_a_round_and_the_stores_does() -> None:
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        served = bucket(store)
        for name in "abcdefgh":
            await opened(served, store, name)
        clock.move(days=2)
        assert (await round_of(bucket(wrap(store, Failing("abort", 1))))).changed == {
            "expired_uploads": 7,
            "failed": 1,
        }
        clock.move(seconds=61)
        assert (await round_of(served)).changed == {"expired_uploads": 1}
        for name in "abcdefgh":
            await opened(served, store, name)
        clock.move(days=2)
        tally = Tally()
        down = bucket(wrap(store, Failing("abort", 100)))
        with pytest.raises(Transient):
            await Janitor(settings(), lambda: down).round(down, tally)
        assert tally.changed == {"failed": 5}

    run(scenario())


def test_many_keys_in_trouble_are_not_the_store_in_trouble() -> None:
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        for at in range(14):
            await opened(bucket(store), store, f"{at}")
        clock.move(days=2)
        tally = await round_of(bucket(wrap(store, Failing("abort", 7, every=2))))
        assert tally.changed == {"expired_uploads": 7, "failed": 7}

    run(scenario())


@pytest.mark.parametrize(
    "wrong", [{"period": "0s"}, {"period": "25h"}, {"calls_per_second": 0.5}, {"calls_per_second": 101}, {"once": True}]
)
def test_settings_out_of_bounds_are_refused(wrong: dict[str, object]) -> None:
    plain = settings().model_dump(mode="json")
    ApiSettings.model_validate(plain | {"janitor": {"enabled": False, "period": "24h", "calls_per_second": 1}})
    with pytest.raises(ValueError, match="janitor"):
        ApiSettings.model_validate(plain | {"janitor": wrong})


def test_it_runs_by_its_period_at_its_rate_and_reads_only_what_is_due() -> None:
    clock = Clock()
    store = memory_store(clock)
    calls: list[tuple[float, str]] = []

    async def note(operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        calls.append((now(), operation.name))
        return await call()

    async def scenario() -> None:
        for name in "abcdefgh":
            await opened(bucket(store), store, name)
        served = bucket(wrap(store, note))
        made = settings().model_copy(update={"janitor": type(settings().janitor)()})
        janitor = Janitor(made, lambda: served, chance=lambda: 0.5)
        task = asyncio.create_task(janitor.run())
        await asyncio.sleep(2 * 3600)
        task.cancel()
        first = [at for at, _ in calls if at < 3600]
        second = [name for at, name in calls if at >= 3600]
        assert first[0] == pytest.approx(1800)
        assert all(later - earlier >= 0.2 - 1e-6 for earlier, later in itertools.pairwise(first))
        assert [name for _, name in calls].count("get_small") == 8
        assert "get_small" not in second
        assert "list" in second
        assert [name for at, name in calls if name == "put_small"] == []

    run(scenario())


def test_switched_off_it_ends_at_once_and_unprepared_it_waits() -> None:
    async def scenario() -> None:
        off = settings()
        off = off.model_copy(update={"janitor": off.janitor.model_copy(update={"enabled": False})})
        await Janitor(off, lambda: bucket(memory_store(Clock()))).run()
        asked = asyncio.Event()

        def nothing_yet() -> None:
            asked.set()

        task = asyncio.create_task(Janitor(settings(), nothing_yet).run())
        await asked.wait()
        assert not task.done()
        task.cancel()

    run(scenario())
