"""Completing on an in-memory store that answers oddly: no success that is none, and always a way to go on."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from putgate_api.housekeeping.records import Memory, SessionFolder
from putgate_api.housekeeping.tally import Tally
from putgate_api.uploads.abort import abort
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.content import NotWhole
from putgate_api.uploads.initiate import initiate
from putgate_protocol.messages.abort import AbortRequest
from putgate_protocol.messages.initiate import Upload
from putgate_protocol.problems import Problem
from putgate_storage.errors import ConditionFailed, Permanent, Refused
from putgate_storage.memory import MemoryStore
from putgate_storage.store import FinishedPart
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
)
from tests.api.memory_streams import DATA, finish_stream, stream_in

KEY = f"{PREFIX}s"


class Odd(MemoryStore):
    """`before`: what happens just before its next Complete. `refusal`: what it answers to each instead of carrying it
    out. `short`: what it publishes lacks its last byte. `aborted`: how often it was asked to abort an upload.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(limits=memory_store(clock).limits, clock=clock)
        self.before: Callable[[], Awaitable[object]] | None = None
        self.refusal: Refused | None = None
        self.short = False
        self.aborted = 0

    async def complete(self, *arguments: Any, **more: Any) -> str | None:
        if (before := self.before) is not None:
            self.before = None
            await before()
        if self.refusal is not None:
            raise self.refusal
        etag = await super().complete(*arguments, **more)
        if self.short and etag is not None:
            self.objects[KEY] = replace(self.objects[KEY], body=self.objects[KEY].body[:-1])
        return etag

    async def abort(self, *arguments: Any) -> bool:
        self.aborted += 1
        return await super().abort(*arguments)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def odd(clock: Clock) -> Odd:
    return Odd(clock)


async def sent(served: Bucket, store: MemoryStore, way: str) -> Upload:
    """All parts of `DATA` sent, nothing published."""
    if way == "stream":
        return await stream_in(served, store, DATA)
    answer = await begin(served, "s", DATA)
    assert set(await put_parts(store, answer, DATA)) == {200}
    return answer


async def end(served: Bucket, way: str, answer: Upload) -> str:
    done = await (finish_stream(served, answer, DATA) if way == "stream" else finish(served, answer))
    return done.status


def states(store: MemoryStore) -> list[str]:
    """Of all sessions."""
    records = [stored.body for key, stored in store.objects.items() if "/sessions/" in key and key.endswith(".json")]
    return [record.partition(b'"state":"')[2].partition(b'"')[0].decode() for record in records]


both_ways = pytest.mark.parametrize("way", ["ordinary", "stream"])


@both_ways
async def test_what_the_store_published_with_another_size_is_never_a_success(odd: Odd, way: str) -> None:
    served = bucket(odd)
    answer = await sent(served, odd, way)
    odd.short = True
    for _ in range(3):
        with pytest.raises(Permanent, match="52 bytes") as failed:
            await end(served, way, answer)
        assert failed.value.code == "SizeDiffers"
    assert states(odd) == ["open"]
    assert (body(odd, "s"), odd.aborted) == (DATA[:-1], 0)


@both_ways
async def test_it_is_one_as_soon_as_the_store_shows_the_whole(odd: Odd, way: str) -> None:
    served = bucket(odd)
    answer = await sent(served, odd, way)
    odd.short = True
    with pytest.raises(Permanent):
        await end(served, way, answer)
    odd.objects[KEY] = replace(odd.objects[KEY], body=DATA)
    assert await end(served, way, answer) == "complete"
    assert states(odd) == ["done"]


@both_ways
async def test_an_upload_that_was_published_with_another_size_is_not_aborted(odd: Odd, clock: Clock, way: str) -> None:
    served = bucket(odd)
    answer = await sent(served, odd, way)
    odd.short = True
    with pytest.raises(Permanent):
        await end(served, way, answer)
    for _ in range(2):
        with pytest.raises(Permanent, match="52 bytes"):
            await abort(served, caller(), AbortRequest(upload_id=answer.upload_id))
    clock.move(days=2)
    tally = Tally()
    await SessionFolder(served, tally, Memory()).tidy()
    assert tally.changed == {"failed": 1}
    assert states(odd) == ["open"]
    assert (body(odd, "s"), odd.aborted) == (DATA[:-1], 0)


@both_ways
async def test_housekeeping_does_not_note_it_as_done(odd: Odd, clock: Clock, way: str) -> None:
    served = bucket(odd)
    answer = await sent(served, odd, way)
    odd.short = True
    with pytest.raises(Permanent):
        await end(served, way, answer)
    (kept,) = await served.sessions.of_key(KEY)
    assert await served.sessions.move(kept, state="completing", holder="somebody who died") is not None
    clock.move(days=2)
    await SessionFolder(served, Tally(), Memory()).tidy()
    assert states(odd) == ["open"]


async def test_many_of_them_end_no_round_of_housekeeping() -> None:
    async def torn() -> None:
        raise NotWhole("another size", code="SizeDiffers")

    tally = Tally()
    for _ in range(20):
        await tally.attempt(KEY, torn())
    assert tally.changed == {"failed": 20}


async def test_initiating_again_sends_it_anew(odd: Odd) -> None:
    served = bucket(odd)
    answer = await sent(served, odd, "ordinary")
    odd.short = True
    with pytest.raises(Permanent):
        await finish(served, answer)
    odd.short = False
    again = await sent(served, odd, "ordinary")
    assert again.uploaded == []
    assert (await finish(served, again)).status == "complete"
    assert body(odd, "s") == DATA


async def test_a_file_that_was_done_and_has_lost_bytes_since_is_not_superseded(odd: Odd) -> None:
    served = bucket(odd)
    answer = await sent(served, odd, "ordinary")
    assert (await finish(served, answer)).status == "complete"
    odd.objects[KEY] = replace(odd.objects[KEY], body=DATA[:-1])
    with pytest.raises(Permanent, match="52 bytes"):
        await finish(served, answer)


async def test_while_its_holder_lives_what_is_not_whole_yet_is_waited_for(odd: Odd, clock: Clock) -> None:
    served = bucket(odd)
    answer = await sent(served, odd, "ordinary")
    odd.short = True
    with pytest.raises(Permanent):
        await finish(served, answer)
    odd.short = False
    (kept,) = await served.sessions.of_key(KEY)
    assert await served.sessions.move(kept, state="completing", holder="another") is not None
    for call in (
        finish(served, answer),
        abort(served, caller(), AbortRequest(upload_id=answer.upload_id)),
        initiate(served, caller(), request("s", DATA)),
    ):
        with pytest.raises(Problem, match="upload_busy"):
            await call
    clock.move(seconds=61)
    with pytest.raises(Permanent, match="52 bytes"):
        await finish(served, answer)
    again = await sent(served, odd, "ordinary")
    assert (await finish(served, again)).status == "complete"
    assert body(odd, "s") == DATA


async def replaced(store: Odd) -> None:
    """A Complete has been carried out without anybody hearing of it, and another file has the name since."""
    store._uploads.clear()
    store.objects[KEY] = store.objects[f"{PREFIX}other"]


@both_ways
async def test_a_412_without_a_precondition_says_nothing_but_look(odd: Odd, way: str) -> None:
    """Some stores answer so to a Complete that they have carried out before."""
    served, other = bucket(odd), b"another file"
    await put_parts(odd, await begin(served, "other", other), other)
    answer = await sent(served, odd, way)
    odd.before = functools.partial(replaced, odd)
    odd.refusal = ConditionFailed("no", code="PreconditionFailed")
    for _ in range(2):
        with pytest.raises(Problem) as gone:
            await end(served, way, answer)
        assert gone.value.code == "upload_gone"
    assert body(odd, "s") == other


@both_ways
async def test_a_412_to_what_has_succeeded_is_a_success(odd: Odd, way: str) -> None:
    served = bucket(odd)
    answer = await sent(served, odd, way)
    (upload,) = odd._uploads.values()
    parts = await odd.list_parts(upload.upload)
    assert parts is not None
    finished = [FinishedPart(number=part.number, etag=part.etag) for part in parts]
    odd.before = functools.partial(MemoryStore.complete, odd, upload.upload, finished)
    odd.refusal = ConditionFailed("no", code="PreconditionFailed")
    assert await end(served, way, answer) == "complete"
    assert body(odd, "s") == DATA


async def test_parts_that_are_others_by_the_time_of_the_complete_are_named(odd: Odd) -> None:
    served = bucket(odd)
    answer = await sent(served, odd, "ordinary")
    (upload,) = odd._uploads.values()

    async def other_parts() -> None:
        del upload.parts[2]
        upload.parts[3] = b"x" * PART

    odd.before = other_parts
    with pytest.raises(Problem) as refused:
        await finish(served, answer)
    assert (refused.value.code, refused.value.parts) == ("parts_missing", (2, 3))
    assert set(await put_parts(odd, answer, DATA)) == {200}
    assert (await finish(served, answer)).status == "complete"
    assert body(odd, "s") == DATA


@both_ways
async def test_parts_that_the_store_lists_and_refuses_are_sent_anew(odd: Odd, way: str) -> None:
    served = bucket(odd)
    answer = await sent(served, odd, way)
    odd.refusal = Refused("no", code="InvalidPart")
    for _ in range(2):
        with pytest.raises(Problem) as gone:
            await end(served, way, answer)
        assert gone.value.code == "upload_gone"
    assert (await odd.list_uploads(""), states(odd)) == ([], [])
    odd.refusal = None
    again = await sent(served, odd, way)
    assert again.uploaded == []
    assert await end(served, way, again) == "complete"
    assert body(odd, "s") == DATA


async def test_copies_that_the_store_lists_and_refuses_are_sent(odd: Odd) -> None:
    served = bucket(odd)
    first = await begin(served, "first", DATA)
    await put_parts(odd, first, DATA)
    assert (await finish(served, first)).status == "complete"
    odd.refusal = Refused("no", code="InvalidPart")
    with pytest.raises(Problem, match="upload_busy"):
        await initiate(served, caller(), request("s", DATA))
    odd.refusal = None
    answer = await sent(served, odd, "ordinary")
    assert answer.uploaded == []
    assert (await finish(served, answer)).status == "complete"
    assert body(odd, "s") == DATA
