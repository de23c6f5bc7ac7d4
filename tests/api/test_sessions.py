"""Sessions on the in-memory store: many parts, time, preconditions, takeovers. No network, no waiting."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import pytest

from putgate_api.uploads import complete as complete_module
from putgate_api.uploads import session as session_module
from putgate_api.uploads.abort import abort
from putgate_api.uploads.batch import batch
from putgate_api.uploads.declared import declare
from putgate_api.uploads.initiate import decide, initiate
from putgate_api.uploads.sign import sign
from putgate_api.uploads.status import status
from putgate_protocol.messages.abort import AbortRequest
from putgate_protocol.messages.initiate import Exists, Upload
from putgate_protocol.messages.sign import SignRequest
from putgate_protocol.messages.status import StatusRequest
from putgate_protocol.problems import Problem
from putgate_storage.errors import Permanent, StoreError, Transient
from putgate_storage.memory import MemoryStore
from putgate_storage.store import Store, StoreUpload
from putgate_storage.wrap.wrapped import Operation, wrap
from tests.api.known_content import CopyingStore
from tests.api.memory_bucket import (
    PART,
    PREFIX,
    Clock,
    begin,
    body,
    bucket,
    caller,
    finish,
    memory_store,
    put_parts,
    request,
    send,
)

T = TypeVar("T")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return memory_store(clock)


async def open_uploads(store: MemoryStore) -> list[StoreUpload]:
    return [found.upload for found in await store.list_uploads("")]


async def test_a_thousand_and_one_parts_take_two_pages(store: MemoryStore) -> None:
    served, data = bucket(store), os.urandom(1000 * PART + 3)
    answer = await begin(served, "big", data)
    assert (len(answer.parts), answer.next_part_number) == (1000, 1001)
    assert set(await put_parts(store, answer, data)) == {200}
    with pytest.raises(Problem, match="parts_missing") as missing:
        await finish(served, answer)
    assert missing.value.parts == (1001,)
    page = await sign(served, caller(), SignRequest(upload_id=answer.upload_id, part_numbers=[1001]))
    assert await send(store, page.parts[0], data) == 200
    held = await status(served, caller(), StatusRequest(upload_id=answer.upload_id))
    assert sum(part.length for part in held.uploaded) == len(data)
    assert (await finish(served, answer)).status == "complete"
    assert body(store, "big") == data


async def test_ten_thousand_parts_are_planned_and_signed(store: MemoryStore) -> None:
    served, data = bucket(store), os.urandom(10_000 * PART)
    answer = await begin(served, "huge", data)
    signed, number = list(answer.parts), answer.next_part_number
    while number is not None and number <= 10_000:
        numbers = list(range(number, min(number + 1000, 10_001)))
        signed += (await sign(served, caller(), SignRequest(upload_id=answer.upload_id, part_numbers=numbers))).parts
        number += 1000
    assert [part.part_number for part in signed] == list(range(1, 10_001))
    assert sum(part.length for part in signed) == len(data)
    assert signed[-1].offset + signed[-1].length == len(data)


async def race(store: MemoryStore, **condition: object) -> None:
    served = bucket(store)
    contents = [os.urandom(3 * PART) for _ in range(8)]
    answers = [await begin(served, "raced", data, **condition) for data in contents]
    for answer, data in zip(answers, contents, strict=True):
        await put_parts(store, answer, data)
    ends = await asyncio.gather(*(finish(served, answer) for answer in answers), return_exceptions=True)
    won = [at for at, end in enumerate(ends) if not isinstance(end, BaseException)]
    assert len(won) == 1
    assert {end.code for end in ends if isinstance(end, Problem)} == {"precondition_failed"}
    assert body(store, "raced") == contents[won[0]]
    assert await open_uploads(store) == []


async def test_if_absent_holds_in_a_race_of_multipart_uploads(store: MemoryStore) -> None:
    await race(store, if_absent=True)


async def test_if_match_holds_in_a_race_of_multipart_uploads(store: MemoryStore) -> None:
    first = await begin(bucket(store), "raced", b"first")
    await put_parts(store, first, b"first")
    head = await store.head(f"{PREFIX}raced")
    assert head is not None
    await race(store, if_match=head.etag)


async def test_an_expired_session_has_ended_and_can_be_begun_again(store: MemoryStore, clock: Clock) -> None:
    served, data = bucket(store), os.urandom(2 * PART)
    answer = await begin(served, "x", data)
    clock.move(hours=25)
    for call in (
        finish(served, answer),
        status(served, caller(), StatusRequest(upload_id=answer.upload_id)),
        sign(served, caller(), SignRequest(upload_id=answer.upload_id, part_numbers=[1])),
    ):
        with pytest.raises(Problem, match="upload_expired"):
            await call
    again = await begin(served, "x", data)
    await put_parts(store, again, data)
    assert (await finish(served, again)).status == "complete"
    assert await open_uploads(store) == []


async def test_activity_prolongs_a_session_but_not_past_the_clean_up(store: MemoryStore, clock: Clock) -> None:
    served, data = bucket(store), os.urandom(2 * PART)
    first = await begin(served, "x", data)
    for _ in range(12):
        clock.move(hours=12)
        await sign(served, caller(), SignRequest(upload_id=first.upload_id, part_numbers=[1]))
    clock.move(hours=25)
    with pytest.raises(Problem, match="upload_expired"):
        await finish(served, first)
    again = await begin(served, "x", data)
    assert len(await open_uploads(store)) == 1
    await put_parts(store, again, data)
    assert (await finish(served, again)).status == "complete"


async def test_an_upload_that_the_store_has_dropped_is_replaced(store: MemoryStore) -> None:
    served, data = bucket(store), os.urandom(3 * PART)
    first = await begin(served, "x", data)
    await put_parts(store, first, data)
    await store.abort((await open_uploads(store))[0])
    with pytest.raises(Problem, match="upload_gone"):
        await finish(served, first)
    second = await begin(served, "x", data)
    assert second.uploaded == []
    await put_parts(store, second, data)
    # The older id names the same session, so it still ends the upload.
    assert (await finish(served, first)).status == "complete"
    assert body(store, "x") == data


async def test_a_dead_creator_is_taken_over_and_its_upload_dropped(store: MemoryStore, clock: Clock) -> None:
    """The state after a process died between creating the store's upload and noting it."""
    served, data = bucket(store), os.urandom(3 * PART)
    await begin(served, "x", data)
    [record] = [key for key in store.objects if "/sessions/" in key and key.endswith(".json")]
    opened = store.objects[record].body
    creating = opened.replace(b'"state":"open"', b'"state":"creating"').replace(b'"holder":""', b'"holder":"dead"')
    await store.put_small(record, creating)
    [orphan] = await open_uploads(store)
    clock.move(seconds=6)
    answer = await begin(served, "x", data)
    assert orphan not in await open_uploads(store)
    await put_parts(store, answer, data)
    assert (await finish(served, answer)).status == "complete"
    assert await open_uploads(store) == []


async def test_uploads_that_a_session_names_are_never_taken_for_orphans(store: MemoryStore, clock: Clock) -> None:
    served, data, other = bucket(store), os.urandom(3 * PART), os.urandom(3 * PART)
    await begin(served, "x", data)
    [record] = [key for key in store.objects if "/sessions/" in key and key.endswith(".json")]
    second = await begin(served, "x", other)
    creating = store.objects[record].body.replace(b'"state":"open"', b'"state":"creating"')
    await store.put_small(record, creating.replace(b'"holder":""', b'"holder":"dead"'))
    clock.move(seconds=6)
    await begin(served, "x", data)
    await put_parts(store, second, other)
    assert (await finish(served, second)).status == "complete"
    assert body(store, "x") == other


async def test_a_living_creator_is_waited_for(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "_PAUSE", 0)
    served, data = bucket(store), os.urandom(3 * PART)
    await begin(served, "x", data)
    [record] = [key for key in store.objects if "/sessions/" in key and key.endswith(".json")]
    creating = store.objects[record].body.replace(b'"state":"open"', b'"state":"creating"')
    await store.put_small(record, creating.replace(b'"holder":""', b'"holder":"alive"'))
    with pytest.raises(Problem, match="upload_busy"):
        await initiate(served, caller(), request("x", data))


async def test_abort_drops_everything_and_is_idempotent(store: MemoryStore) -> None:
    served, data = bucket(store), os.urandom(3 * PART)
    before = set(store.objects)
    answer = await begin(served, "x", data)
    await put_parts(store, answer, data)
    for _ in range(2):
        await abort(served, caller(), AbortRequest(upload_id=answer.upload_id))
    assert set(store.objects) == before
    assert await open_uploads(store) == []


async def test_abort_never_harms_what_was_published(store: MemoryStore) -> None:
    served, data = bucket(store), os.urandom(3 * PART)
    answer = await begin(served, "x", data)
    await put_parts(store, answer, data)
    await finish(served, answer)
    with pytest.raises(Problem, match="upload_gone"):
        await abort(served, caller(), AbortRequest(upload_id=answer.upload_id))
    assert body(store, "x") == data


async def test_a_later_upload_supersedes_an_earlier_one(store: MemoryStore) -> None:
    served, one, two = bucket(store), os.urandom(3 * PART), os.urandom(3 * PART)
    first = await begin(served, "x", one)
    await put_parts(store, first, one)
    assert (await finish(served, first)).status == "complete"
    second = await begin(served, "x", two)
    await put_parts(store, second, two)
    assert (await finish(served, second)).status == "complete"
    again = await finish(served, first)
    assert (again.status, again.file) == ("superseded", None)
    exists = await initiate(served, caller(), request("x", two))
    assert isinstance(exists, Exists)
    third = await initiate(served, caller(), request("x", one))
    assert isinstance(third, Upload)


@pytest.mark.parametrize("precondition", [{}, {"if_absent": True}], ids=["plain", "if absent"])
@pytest.mark.parametrize("at", ["list_parts", "complete"])
async def test_who_stood_still_while_another_finished_and_a_third_replaced_it_was_superseded(
    store: MemoryStore, clock: Clock, at: str, precondition: dict[str, Any]
) -> None:
    """Told that its upload is gone, a client would begin anew and put the older content above the newer."""
    mine, newer = os.urandom(3 * PART), os.urandom(3 * PART)
    others = bucket(store)
    answer = await begin(others, "x", mine, **precondition)
    await put_parts(store, answer, mine)
    stood_still = False

    async def around(operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        nonlocal stood_still
        if operation.name == at and not stood_still:
            stood_still = True
            clock.move(seconds=61)
            assert (await finish(others, answer)).status == "complete"
            following = await begin(others, "x", newer)
            await put_parts(store, following, newer)
            assert (await finish(others, following)).status == "complete"
        return await call()

    assert (await finish(bucket(wrap(store, around)), answer)).status == "superseded"
    assert stood_still
    assert body(store, "x") == newer
    assert await open_uploads(store) == []


async def test_part_hashes_that_were_tampered_with_in_the_bucket_are_never_signed(store: MemoryStore) -> None:
    served, data = bucket(store), os.urandom(3 * PART)
    answer = await begin(served, "x", data)
    [record] = [key for key in store.objects if key.endswith(".parts")]
    await store.put_small(record, b"\0" * len(store.objects[record].body))
    with pytest.raises(Problem, match="upload_gone"):
        await sign(served, caller(), SignRequest(upload_id=answer.upload_id, part_numbers=[1]))


@pytest.mark.parametrize("size", [0, 5, PART])
async def test_without_a_conditional_put_small_files_go_as_multipart_or_refuse(store: MemoryStore, size: int) -> None:
    served, data = (
        bucket(store, commit_by_put=False, conditional_put=False, conditional_complete=False),
        os.urandom(size),
    )
    with pytest.raises(Problem, match="precondition_unsupported"):
        await initiate(served, caller(), request("x", data, if_absent=True))
    answer = await initiate(served, caller(), request("x", data))
    if isinstance(answer, Upload):
        assert answer.commit == "complete"
        await put_parts(store, answer, data)
        await finish(served, answer)
    assert body(store, "x") == data


def record_of(store: MemoryStore, ending: str = ".json") -> str:
    [record] = [key for key in store.objects if "/sessions/" in key and key.endswith(ending)]
    return record


async def rewrite(store: MemoryStore, record: str, *changes: tuple[bytes, bytes]) -> None:
    """Put a record into a state that a process left behind."""
    text = store.objects[record].body
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    await store.put_small(record, text)


class Faulty:
    """A store whose methods can be made to fail: `fail["head"] = [error, None, …]`, None for a call that works."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.fail: dict[str, list[StoreError | None]] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in self.fail:
            return method

        async def call(*arguments: Any, **named: Any) -> Any:
            error = self.fail[name].pop(0) if self.fail[name] else None
            if error is not None:
                raise error
            return await method(*arguments, **named)

        return call


async def test_a_session_that_has_lost_its_part_hashes_heals(store: MemoryStore) -> None:
    served, data = bucket(store), os.urandom(3 * PART)
    answer = await begin(served, "x", data)
    await put_parts(store, answer, data)
    await store.delete(record_of(store, ".parts"))
    with pytest.raises(Problem, match="upload_gone"):
        await finish(served, answer)
    again = await begin(served, "x", data)
    assert len(again.uploaded) == 3
    assert (await finish(served, again)).status == "complete"


async def test_a_dead_creators_age_does_not_end_the_new_upload(store: MemoryStore, clock: Clock) -> None:
    served, data = bucket(store), os.urandom(3 * PART)
    await begin(served, "x", data)
    await rewrite(store, record_of(store), (b'"state":"open"', b'"state":"creating"'))
    clock.move(days=8)
    answer = await begin(served, "x", data)
    await put_parts(store, answer, data)
    clock.move(hours=23)
    assert (await finish(served, answer)).status == "complete"


async def test_a_session_that_is_being_created_is_not_swept_by_another(store: MemoryStore, clock: Clock) -> None:
    """Its upload is open in the store already, and not named yet."""
    served, data, other = bucket(store), os.urandom(3 * PART), os.urandom(3 * PART)
    await begin(served, "x", data)
    dead = record_of(store)
    await rewrite(store, dead, (b'"state":"open"', b'"state":"creating"'), (b'"holder":""', b'"holder":"dead"'))
    clock.move(seconds=6)
    second = await begin(served, "x", other)
    [alive] = [key for key in store.objects if key.endswith(".json") and "/sessions/" in key and key != dead]
    whole = store.objects[alive].body
    await rewrite(store, alive, (b'"state":"open"', b'"state":"creating"'), (b'"holder":""', b'"holder":"alive"'))
    with pytest.raises(Problem, match="upload_busy"):
        await initiate(served, caller(), request("x", data))
    await store.put_small(alive, whole)
    await put_parts(store, second, other)
    assert (await finish(served, second)).status == "complete"


async def test_a_lost_precondition_ends_only_its_own_upload(store: MemoryStore) -> None:
    served, data = bucket(store), os.urandom(3 * PART)
    strict = await begin(served, "x", data, if_absent=True)
    free = await begin(served, "x", data)
    for answer in (strict, free):
        await put_parts(store, answer, data)
    other = await begin(served, "x", b"other")
    await put_parts(store, other, b"other")
    with pytest.raises(Problem, match="precondition_failed"):
        await finish(served, strict)
    assert (await finish(served, free)).status == "complete"
    assert body(store, "x") == data


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete_module, "_PAUSES", (0, 0))


@pytest.mark.usefixtures("no_pauses")
async def test_a_complete_that_the_store_never_answers_keeps_its_hold(store: MemoryStore, clock: Clock) -> None:
    """It may still be at work in the store: an abort in the meantime could destroy what it is about to publish."""
    faulty = Faulty(store)
    served, data = bucket(cast("Store", faulty)), os.urandom(3 * PART)
    answer = await begin(served, "x", data)
    await put_parts(store, answer, data)
    faulty.fail["complete"] = [Transient("no answer", code="Timeout")] * 3
    with pytest.raises(Transient):
        await finish(served, answer)
    with pytest.raises(Problem, match="upload_busy"):
        await abort(served, caller(), AbortRequest(upload_id=answer.upload_id))
    clock.move(seconds=61)
    assert (await finish(served, answer)).status == "complete"
    assert body(store, "x") == data


@pytest.mark.usefixtures("no_pauses")
async def test_a_complete_is_tried_again_by_its_holder(store: MemoryStore) -> None:
    faulty = Faulty(store)
    served, data = bucket(cast("Store", faulty)), os.urandom(3 * PART)
    answer = await begin(served, "x", data)
    await put_parts(store, answer, data)
    faulty.fail["complete"] = [Transient("slow down", code="SlowDown")] * 2
    assert (await finish(served, answer)).status == "complete"


async def test_a_published_file_is_a_success_even_if_its_end_cannot_be_noted(store: MemoryStore) -> None:
    faulty = Faulty(store)
    served, data = bucket(cast("Store", faulty)), os.urandom(3 * PART)
    answer = await begin(served, "x", data)
    await put_parts(store, answer, data)
    faulty.fail["delete"] = [Permanent("no right to delete", code="AccessDenied")] * 9
    assert (await finish(served, answer)).status == "complete"
    assert (await finish(served, answer)).status == "complete"


async def test_an_upload_published_by_a_dead_holder_is_found_by_initiate(store: MemoryStore) -> None:
    """The holder died after the store had published, and the client begins anew with a listing that is old."""
    served, data = bucket(store), os.urandom(3 * PART)
    answer = await begin(served, "x", data)
    await put_parts(store, answer, data)
    await finish(served, answer)
    await rewrite(
        store, record_of(store), (b'"state":"done"', b'"state":"completing"'), (b'"holder":""', b'"holder":"x"')
    )
    declared = declare(served, caller(), request("x", data))
    assert isinstance(await decide(served, declared, None, page=1000), Exists)


async def test_one_name_that_cannot_be_looked_at_spoils_only_itself(store: MemoryStore) -> None:
    faulty = Faulty(store)
    served = bucket(cast("Store", faulty))
    for name in ("a", "b", "c"):
        answer = await begin(served, name, b"old")
        await put_parts(store, answer, b"old")
    faulty.fail["head"] = [None, Permanent("odd", code="Odd"), None, Permanent("odd", code="Odd")]
    items = [{"initiate": request(name, b"new").model_dump(exclude_none=True)} for name in ("a", "b", "c")]
    outcomes = await batch(served, caller(), items)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Permanent", "Upload", "Upload"]


async def test_without_conditional_writes_one_process_keeps_its_calls_apart(store: MemoryStore) -> None:
    served, data = bucket(store, conditional_put=False), os.urandom(3 * PART)
    for _ in range(20):
        answer = await begin(served, "x", data)
        await put_parts(store, answer, data)
        ends = await asyncio.gather(
            finish(served, answer),
            abort(served, caller(), AbortRequest(upload_id=answer.upload_id)),
            return_exceptions=True,
        )
        completed = not isinstance(ends[0], BaseException)
        assert (body(store, "x") == data) == completed
        assert await open_uploads(store) == []
        await store.delete(f"{PREFIX}x")


async def settle() -> None:
    """Let every other task go as far as it can: on the in-memory store none waits for anything but another."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_without_conditional_writes_a_signing_call_does_not_undo_a_complete(
    store: MemoryStore, clock: Clock
) -> None:
    """Open again, it would answer that its upload is gone, and the client put the older content above the newer."""
    mine, newer = os.urandom(3 * PART), os.urandom(3 * PART)
    others = bucket(store, conditional_put=False)
    answer = await begin(others, "x", mine)
    await put_parts(store, answer, mine)
    clock.move(hours=12)
    completing: asyncio.Task[object] | None = None

    async def around(operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        nonlocal completing
        if operation.name == "put_small" and completing is None:
            completing = asyncio.create_task(finish(served, answer))
            await settle()
        return await call()

    served = bucket(wrap(store, around), conditional_put=False)
    await sign(served, caller(), SignRequest(upload_id=answer.upload_id, part_numbers=[1]))
    assert completing is not None
    await completing
    following = await begin(others, "x", newer)
    await put_parts(store, following, newer)
    await finish(others, following)
    assert (await finish(others, answer)).status == "superseded"
    assert body(store, "x") == newer


async def test_without_conditional_writes_a_session_that_has_moved_on_is_not_prolonged(
    store: MemoryStore, clock: Clock
) -> None:
    served, data = bucket(store, conditional_put=False), os.urandom(3 * PART)
    answer = await begin(served, "x", data)
    await put_parts(store, answer, data)
    [open_before] = await served.sessions.of_key(f"{PREFIX}x")
    assert (await finish(served, answer)).status == "complete"
    clock.move(hours=12)
    await session_module.extend_read(served, open_before.session)
    [kept] = await served.sessions.of_key(f"{PREFIX}x")
    assert kept.session.state == "done"


async def test_without_conditional_writes_copies_that_fail_for_one_do_not_end_anothers_complete(clock: Clock) -> None:
    data = os.urandom(3 * PART)
    store = CopyingStore(clock)
    first = await begin(bucket(store), "first", data)
    await put_parts(store, first, data)
    await finish(bucket(store), first)
    under_way = asyncio.Event()
    other: asyncio.Task[object] | None = None

    async def around(operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        nonlocal other
        if operation.name == "copy_part" and other is None:
            other = asyncio.create_task(initiate(served, caller(), request("x", data)))
            await under_way.wait()
            raise Permanent("not this one", code="Odd")
        if operation.name == "complete":
            under_way.set()
            await settle()
        return await call()

    served = bucket(wrap(store, around), conditional_put=False)
    assert isinstance(await initiate(served, caller(), request("x", data)), Upload)
    assert other is not None
    assert isinstance(await other, Exists)
    assert body(store, "x") == data
