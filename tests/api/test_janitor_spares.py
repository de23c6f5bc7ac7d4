"""Housekeeping on the in-memory store: what it must not touch, whatever is there and whoever is at work."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from putgate_api.housekeeping import strays
from putgate_api.housekeeping.janitor import Janitor
from putgate_api.housekeeping.tally import Tally
from putgate_storage.errors import Permanent, Refused, StoreError, Transient, Unsupported
from putgate_storage.memory import MemoryStore
from putgate_storage.probe.run import FOLDER
from putgate_storage.store import ObjectHeaders, Page, StoreLimits
from putgate_storage.wrap.wrapped import Operation, wrap
from tests.api.leftovers import (
    DATA,
    Before,
    Dying,
    Failing,
    dying,
    killed,
    opened,
    round_of,
    seen,
    settings,
)
from tests.api.memory_bucket import PREFIX, Clock, begin, bucket, finish, memory_store
from tests.operator.virtual_time import run

T = TypeVar("T")


def test_records_that_it_cannot_read_and_other_peoples_things_stay() -> None:
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        served = bucket(store)
        for name in ("future", "damaged", "misplaced"):
            await opened(served, store, name)
        records = {_record(store, name): name for name in ("future", "damaged", "misplaced")}
        for key, name in records.items():
            tree = json.loads(store.objects[key].body)
            changed = {"future": tree | {"v": 2}, "damaged": {"v": 1}, "misplaced": tree | {"key": "elsewhere/x"}}[name]
            await store.put_small(key, json.dumps(changed).encode())
        for key in ("elsewhere/x", f"{PREFIX}.putgate/v2/x", f"{PREFIX}.putgate/v1/blobs/x", f"{PREFIX}%61"):
            await store.create_upload(key, ObjectHeaders())
        for key in (f"{PREFIX}.putgate/v2/x", f"{PREFIX}.putgate/v1/sessions/odd", f"{PREFIX}x.parts", "y"):
            await store.put_small(key, b"x")
        before = set(store.objects), [found.upload for found in await store.list_uploads("")]
        clock.move(days=30)
        tally = await round_of(served)
        after = set(store.objects), [found.upload for found in await store.list_uploads("")]
        assert before[0] == after[0]
        # The records of two may name any upload of their key; the third names one of another key.
        assert [upload.key for upload in before[1] if upload not in after[1]] == [f"{PREFIX}misplaced"]
        assert tally.changed == {"unreadable_sessions": 3, "stray_uploads": 1, "kept_stray_uploads": 2}

    run(scenario())


def _record(store: MemoryStore, name: str) -> str:
    (found,) = [
        key
        for key, stored in store.objects.items()
        if key.endswith(".json") and json.loads(stored.body).get("key") == PREFIX + name
    ]
    return found


def test_a_stray_goes_only_where_putgates_rule_would_take_it() -> None:
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        served = bucket(store)
        await store.create_upload(f"{PREFIX}young", ObjectHeaders())
        await store.create_upload(f"{PREFIX}newer-file", ObjectHeaders())
        clock.move(minutes=1)
        await store.put_small(f"{PREFIX}newer-file", b"it may have become this")
        await store.put_small(f"{PREFIX}older-file", b"it was there before")
        clock.move(minutes=1)
        await store.create_upload(f"{PREFIX}older-file", ObjectHeaders())
        clock.move(days=6, hours=23)
        assert (await round_of(served)).changed == {}
        clock.move(hours=2)
        await store.create_upload(f"{PREFIX}fresh", ObjectHeaders())
        assert (await round_of(served, management="Observe")).changed == {"kept_stray_uploads": 3}
        assert (await round_of(served)).changed == {"stray_uploads": 2, "kept_stray_uploads": 1}
        left = [found.upload.key for found in await store.list_uploads("")]
        assert left == [f"{PREFIX}fresh", f"{PREFIX}newer-file"]

    run(scenario())


@pytest.mark.parametrize(
    "error",
    [
        Permanent("denied", code="AccessDenied"),
        Refused("it has settings that would be lost", code="LifecycleForeign"),
        Unsupported("no such call", code="NotImplemented"),
        Transient("the store is silent", code="Silent"),
    ],
    ids=lambda error: error.code,
)
def test_a_stray_stays_where_the_store_does_not_have_the_rule(error: StoreError) -> None:
    clock = Clock()
    store = memory_store(clock)
    refused: list[str] = []

    async def no_rule(operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        if operation.name == "ensure_abort_rule":
            refused.append(operation.name)
            raise error
        return await call()

    async def scenario() -> None:
        foreign = await store.create_upload(f"{PREFIX}x", ObjectHeaders())
        clock.move(days=6)
        await round_of(bucket(wrap(store, no_rule)))
        assert refused == [], "nothing is to be decided yet"
        clock.move(days=24)
        assert (await round_of(bucket(wrap(store, no_rule)))).changed == {"kept_stray_uploads": 1}
        assert [found.upload for found in await store.list_uploads("")] == [foreign]
        assert (await round_of(bucket(store))).changed == {"stray_uploads": 1}
        assert [rule.days for rule in store.rules.values()] == [7]

    run(scenario())


class _Listing(MemoryStore):
    """Notes what is listed of objects."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(limits=StoreLimits(min_part_size=1), clock=clock)
        self.listed: list[str] = []

    async def list(self, prefix: str, **more: Any) -> Page:
        self.listed.append(prefix)
        return await super().list(prefix, **more)


def test_the_sessions_are_listed_once_for_many_strays_and_never_where_none_may_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    store = _Listing(clock)
    sessions = f"{PREFIX}.putgate/v1/sessions/"

    async def scenario() -> None:
        for at in range(30):
            await store.create_upload(f"{PREFIX}{at}", ObjectHeaders())
        clock.move(days=8)
        live = await opened(bucket(store), store, "1")
        await round_of(bucket(store), management="Observe")
        assert store.listed.count(sessions) == 1, "to find what is due"
        store.listed.clear()
        monkeypatch.setattr(strays, "_BATCH", 20)
        assert (await round_of(bucket(store))).changed == {"stray_uploads": 30}
        assert store.listed.count(sessions) == 1 + 2, "and for each batch"
        assert (await finish(bucket(store), live)).status == "complete"

    run(scenario())


def test_an_old_upload_that_a_session_names_is_no_stray() -> None:
    """Its completing process is still at work."""
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        await opened(bucket(store), store, "x")
        (key,) = [key for key in store.objects if key.endswith(".json")]
        clock.move(days=8)
        tree = json.loads(store.objects[key].body) | {"state": "completing", "holder": "alive"}
        await store.put_small(key, json.dumps(tree).encode())
        await store.create_upload(f"{PREFIX}x", ObjectHeaders())
        assert (await round_of(bucket(store))).changed == {}
        assert len(await store.list_uploads("")) == 2

    run(scenario())


def test_a_record_that_cannot_be_read_just_now_spares_the_uploads_of_its_key() -> None:
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        await store.create_upload(f"{PREFIX}x", ObjectHeaders())
        await store.create_upload(f"{PREFIX}y", ObjectHeaders())
        clock.move(days=8)
        await opened(bucket(store), store, "x")
        # The first reading is of what is due, the second for the strays.
        silent = bucket(wrap(store, Failing("get_small", 1, every=2)))
        assert (await round_of(silent)).changed == {"failed": 1, "kept_stray_uploads": 1, "stray_uploads": 1}
        assert f"{PREFIX}x" in [found.upload.key for found in await store.list_uploads("")]

    run(scenario())


@pytest.mark.parametrize(
    ("call", "left"),
    [
        ("list", {"stray_uploads": 1, "probe_objects": 1, "probe_uploads": 1}),
        ("list_uploads", {"expired_uploads": 1, "probe_objects": 1, "probe_uploads": 1}),
    ],
)
def test_a_step_that_fails_keeps_no_other_from_running(call: str, left: dict[str, int]) -> None:
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        await store.create_upload(f"{PREFIX}stray", ObjectHeaders())
        await store.put_small(f"{PREFIX}{FOLDER}run/put-1", b"x")
        await store.create_upload(f"{PREFIX}{FOLDER}run/part-1", ObjectHeaders())
        await opened(bucket(store), store, "open")
        clock.move(days=8)
        tally, broken = Tally(), bucket(wrap(store, Failing(call, 1)))
        with pytest.raises(Transient):
            await Janitor(settings(), lambda: broken).round(broken, tally)
        assert tally.changed == left

    run(scenario())


def test_a_stray_stays_while_a_session_of_its_key_is_being_created() -> None:
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        await store.create_upload(f"{PREFIX}x", ObjectHeaders())
        clock.move(days=8)
        await killed(begin(dying(store, 1, "before", lambda name: name == "create_upload"), "x", DATA))
        assert (await round_of(bucket(store))).changed == {}
        assert len(await store.list_uploads("")) == 1
        clock.move(days=2)
        assert (await round_of(bucket(store))).changed == {"unopened_sessions": 1, "stray_uploads": 1}

    run(scenario())


def test_another_tools_upload_of_a_dead_creators_key_stays() -> None:
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        await killed(begin(dying(store, 1, "after", lambda name: name == "create_upload"), "x", DATA))
        clock.move(hours=1)
        foreign = await store.create_upload(f"{PREFIX}x", ObjectHeaders())
        clock.move(hours=24)
        assert (await round_of(bucket(store))).changed == {"unopened_sessions": 1}
        assert [found.upload for found in await store.list_uploads("")] == [foreign]

    run(scenario())


def test_no_completed_upload_is_aborted_whatever_became_of_its_file() -> None:
    """On some stores that would destroy what is under the key now."""
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        served = bucket(store)
        await finish(served, await opened(served, store, "x"))
        await store.put_small(f"{PREFIX}x", b"another tool's")
        clock.move(days=2)
        aborts = Dying(1, "before", lambda name: name == "abort")
        assert (await round_of(bucket(wrap(store, aborts)))).changed == {"done_sessions": 1}
        assert aborts.calls == 0

    run(scenario())


def test_lone_parts_that_are_written_again_stay() -> None:
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        await killed(begin(dying(store, 1, "after", lambda name: name == "put_small"), "x", DATA))
        clock.move(hours=2)
        # Between the listing and the look at both.
        heads = Before(lambda name: name == "head", lambda: opened(bucket(store), store, "x"))
        assert (await round_of(bucket(wrap(store, heads)))).changed == {}
        assert heads.ran
        answer = await begin(bucket(store), "x", DATA)
        assert (await finish(bucket(store), answer)).status == "complete"

    run(scenario())


def test_lone_parts_of_a_session_that_is_about_to_begin_stay() -> None:
    """They were there, and are written again; the record comes next."""
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        def begins() -> Coroutine[Any, Any, None]:
            return killed(begin(dying(store, 1, "after", lambda name: name == "put_small"), "x", DATA))

        await begins()
        clock.move(hours=2)
        heads = Before(lambda name: name == "head", begins)
        assert (await round_of(bucket(wrap(store, heads)))).changed == {}
        assert heads.ran
        assert len((await seen(store)).others) == 1

    run(scenario())


def test_a_listing_in_another_order_takes_no_parts_from_their_session() -> None:
    clock = Clock()
    store = memory_store(clock)

    async def backwards(operation: Operation, call: Callable[[], Awaitable[Any]]) -> Any:
        answer = await call()
        return replace(answer, entries=answer.entries[::-1]) if operation.name == "list" else answer

    async def scenario() -> None:
        await opened(bucket(store), store, "x")
        clock.move(hours=2)
        assert (await round_of(bucket(wrap(store, backwards)))).changed == {}
        assert (await seen(store)).others == {"x.parts"}

    run(scenario())


def test_parts_that_went_although_their_session_began_cost_one_more_initiate() -> None:
    """The one moment that no look can close: the hashes go between their writing and their record's."""
    clock = Clock()
    store = memory_store(clock)

    async def scenario() -> None:
        await killed(begin(dying(store, 1, "after", lambda name: name == "put_small"), "x", DATA))
        clock.move(hours=2)
        deletes = Before(lambda name: name == "delete", lambda: opened(bucket(store), store, "x"))
        await round_of(bucket(wrap(store, deletes)))
        assert deletes.ran
        answer = await begin(bucket(store), "x", DATA)
        assert answer.parts == [], "nothing is sent again"
        assert (await finish(bucket(store), answer)).status == "complete"

    run(scenario())
