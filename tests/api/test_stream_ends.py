"""The end of a stream on the in-memory store: published only as what was declared, once, and described so."""

from __future__ import annotations

import functools
import os
from typing import Any

import pytest

from putgate_api.files import describe, remove
from putgate_api.fsck.files import Files
from putgate_api.fsck.finding import Looked
from putgate_api.housekeeping.records import Memory, SessionFolder
from putgate_api.housekeeping.tally import Tally
from putgate_api.records.streamed import End
from putgate_api.uploads.abort import abort
from putgate_api.uploads.complete import complete
from putgate_api.uploads.status import status
from putgate_api.uploads.stream_end import note_end
from putgate_protocol.digests import FileHash, Md5, PartHash
from putgate_protocol.messages.abort import AbortRequest
from putgate_protocol.messages.complete import CompleteAnswer
from putgate_protocol.messages.status import StatusRequest
from putgate_protocol.messages.stream import PartDeclaration
from putgate_protocol.names import Name
from putgate_protocol.parts import Part
from putgate_protocol.problems import Problem
from putgate_storage.errors import ConditionFailed, Transient
from putgate_storage.memory import MemoryStore
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
    send,
)
from tests.api.memory_streams import (
    DATA,
    declare,
    declared,
    end_of,
    end_of_hash,
    finish_stream,
    left,
    open_stream,
    stream_in,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return memory_store(clock)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"size": len(DATA) - 1}, "size_invalid"),
        ({"size": len(DATA) + PART}, "size_invalid"),
        ({"size": 0}, "size_invalid"),
        ({"size": None}, "request_invalid"),
        ({"file_hash": None}, "request_invalid"),
        ({"file_hash": "0" * 64}, "hash_mismatch"),
        ({"file_hash": "G" * 64}, "request_invalid"),
        ({"size": 2**41}, "too_large"),
    ],
)
async def test_an_end_that_is_not_what_was_declared_is_refused(
    store: MemoryStore, changed: dict[str, Any], code: str
) -> None:
    served = bucket(store)
    stream = await stream_in(served, store, DATA)
    with pytest.raises(Problem) as caught:
        await complete(served, caller(), end_of(stream, DATA).model_copy(update=changed))
    assert caught.value.code == code
    assert body(store, "s") is None
    assert (await finish_stream(served, stream, DATA)).status == "complete"
    # And what it has become cannot be called anything else either.
    with pytest.raises(Problem):
        await complete(served, caller(), end_of(stream, DATA).model_copy(update=changed))


async def test_a_part_that_was_declared_and_never_sent_is_missing(store: MemoryStore) -> None:
    served = bucket(store)
    stream = await open_stream(served)
    page = await declare(served, stream, declared(DATA))
    for part in page.parts[:2]:
        await send(store, part, DATA)
    with pytest.raises(Problem) as caught:
        await finish_stream(served, stream, DATA)
    assert (caught.value.code, caught.value.parts) == ("parts_missing", (3, 4))


async def test_a_number_that_was_left_out_is_missing(store: MemoryStore) -> None:
    served = bucket(store)
    stream = await open_stream(served)
    await declare(served, stream, declared(DATA, range(3, 5)))
    with pytest.raises(Problem) as caught:
        await finish_stream(served, stream, DATA)
    assert (caught.value.code, caught.value.parts) == ("parts_missing", (1, 2))


async def test_only_the_last_part_is_short(store: MemoryStore) -> None:
    served = bucket(store)
    stream = await open_stream(served)
    await declare(served, stream, declared(DATA))
    with pytest.raises(Problem, match="only the last part"):
        await declare(served, stream, declared(DATA + DATA, range(5, 6)))
    other = await open_stream(served)
    await declare(served, other, declared(DATA, range(2, 3)))
    short = PartDeclaration(part_number=1, sha256="0" * 64, length=3)
    with pytest.raises(Problem, match="only the last part"):
        await declare(served, other, [short])


async def test_preconditions_hold_at_the_end(store: MemoryStore) -> None:
    served = bucket(store)
    stream = await stream_in(served, store, DATA, if_absent=True)
    await put_parts(store, await begin(served, "s", b"first"), b"first")
    with pytest.raises(Problem, match="precondition_failed"):
        await finish_stream(served, stream, DATA)
    assert body(store, "s") == b"first"
    with pytest.raises(Problem, match="precondition_failed"):
        await open_stream(served, if_absent=True)
    racing = bucket(store, conditional_complete=False)
    with pytest.raises(Problem, match="precondition_unsupported"):
        await open_stream(racing, "new", if_absent=True)
    assert await left(store) == ([], [])


async def test_an_abort_leaves_nothing(store: MemoryStore) -> None:
    served = bucket(store)
    stream = await stream_in(served, store, DATA)
    for _ in range(2):
        await abort(served, caller(), AbortRequest(upload_id=stream.upload_id))
    assert await left(store) == ([], [])
    for call in (declare(served, stream, declared(DATA)), finish_stream(served, stream, DATA)):
        with pytest.raises(Problem, match="upload_gone"):
            await call
    assert body(store, "s") is None


async def test_a_published_stream_is_not_aborted(store: MemoryStore) -> None:
    served = bucket(store)
    stream = await stream_in(served, store, DATA)
    await finish_stream(served, stream, DATA)
    with pytest.raises(Problem, match="was completed"):
        await abort(served, caller(), AbortRequest(upload_id=stream.upload_id))
    assert body(store, "s") == DATA


class Fails(MemoryStore):
    """The next Complete happens, but its answer gets lost, as do all heads until `healed`."""

    lose = False

    async def complete(self, *arguments: Any, **more: Any) -> str | None:
        etag = await super().complete(*arguments, **more)
        if self.lose:
            raise Transient("lost", code="Lost")
        return etag

    async def head(self, key: str) -> Any:
        if self.lose and key == f"{PREFIX}s":
            raise Transient("lost", code="Lost")
        return await super().head(key)


async def test_the_janitor_finishes_a_stream_whose_completer_died() -> None:
    clock = Clock()
    store = Fails(limits=memory_store(clock).limits, clock=clock)
    served = bucket(store)
    stream = await stream_in(served, store, DATA)
    store.lose = True
    with pytest.raises(Transient):
        await finish_stream(served, stream, DATA)
    store.lose = False
    clock.move(minutes=5)
    tally = Tally()
    await SessionFolder(served, tally, Memory()).tidy()
    assert tally.changed["finished_uploads"] == 1
    assert (await finish_stream(served, stream, DATA)).status == "complete"
    assert (await describe(served, caller(), Name(b"s"))).file.file_hash == end_of_hash(DATA)


async def test_the_janitor_drops_a_stream_that_nobody_ends(store: MemoryStore, clock: Clock) -> None:
    served = bucket(store)
    stream = await stream_in(served, store, DATA)
    clock.move(hours=25)
    with pytest.raises(Problem, match="upload_expired"):
        await declare(served, stream, declared(DATA))
    tally = Tally()
    await SessionFolder(served, tally, Memory()).tidy()
    assert tally.changed["expired_uploads"] == 1
    assert await left(store) == ([], [])


async def test_the_janitor_forgets_an_ended_stream_but_not_what_it_was(store: MemoryStore, clock: Clock) -> None:
    served = bucket(store)
    await finish_stream(served, await stream_in(served, store, DATA), DATA)
    clock.move(hours=25)
    tally = Tally()
    await SessionFolder(served, tally, Memory()).tidy()
    assert tally.changed["done_sessions"] == 1
    assert (await describe(served, caller(), Name(b"s"))).file.file_hash == end_of_hash(DATA)
    _, keys = await left(store)
    assert [key.split("/")[3] for key in keys] == ["streamed"]
    await remove(served, caller(), Name(b"s"), if_match=None)
    assert await left(store) == ([], [])


class FromMemory:
    """Reads what the store holds."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def part_hash(self, key: str, etag: str, part: Part) -> PartHash | None:
        held = body(self._store, key.removeprefix(PREFIX))
        assert held is not None
        return PartHash.of(held[part.offset : part.offset + part.length])


async def findings(store: MemoryStore) -> list[str]:
    looked = Looked()
    return [finding.kind async for finding in Files(store, PREFIX, FromMemory(store)).check(looked)]


async def test_fsck_knows_streamed_files(store: MemoryStore) -> None:
    served = bucket(store)
    await finish_stream(served, await stream_in(served, store, DATA), DATA)
    assert await findings(store) == []
    [record] = [key for key in store.objects if "/streamed/" in key]
    await store.delete(record)
    assert await findings(store) == ["record_missing"]
    # A record of other bytes of the same length is found out by reading them.
    nonce = record.rpartition("/")[2].removesuffix(".json")
    await served.streamed.write(nonce, End(file_hash=FileHash.of(()), size=len(DATA)))
    assert await findings(store) == ["content_differs"]
    await store.delete(record)
    # Without its hash it is a file all the same.
    assert (await describe(served, caller(), Name(b"s"))).file.file_hash is None


async def test_an_ordinary_upload_replaces_a_streamed_file(store: MemoryStore) -> None:
    served, data = bucket(store), os.urandom(2 * PART)
    await finish_stream(served, await stream_in(served, store, DATA), DATA)
    answer = await begin(served, "s", data)
    await put_parts(store, answer, data)
    assert (await finish(served, answer)).status == "complete"
    found = await describe(served, caller(), Name(b"s"))
    assert found.file.file_hash == end_of_hash(data)


def with_md5(data: bytes) -> list[PartDeclaration]:
    pieces = [data[at : at + PART] for at in range(0, len(data), PART)]
    return [
        part.model_copy(update={"md5": str(Md5.of(piece))}) for part, piece in zip(declared(data), pieces, strict=True)
    ]


async def test_where_only_md5_is_checked_a_stream_says_both_digests(store: MemoryStore) -> None:
    served = bucket(store, tier="md5", commit_by_put=False)
    stream = await open_stream(served)
    with pytest.raises(Problem) as refused:
        await declare(served, stream, declared(DATA))
    assert (refused.value.code, refused.value.status) == ("md5_required", 400)
    page = await declare(served, stream, with_md5(DATA))
    for signed, part in zip(page.parts, with_md5(DATA), strict=True):
        assert signed.headers["content-md5"] == part.md5
    assert [await send(store, part, DATA) for part in page.parts] == [200] * 4
    assert isinstance(await finish_stream(served, stream, DATA), CompleteAnswer)
    assert body(store, "s") == DATA


async def test_a_part_of_a_stream_that_is_not_what_was_declared_is_never_published(store: MemoryStore) -> None:
    served = bucket(store, tier="md5", commit_by_put=False)
    stream = await open_stream(served)
    page = await declare(served, stream, with_md5(DATA))
    for part in page.parts:
        await send(store, part, DATA)
    (upload,) = store._uploads.values()
    upload.parts[2] = b"x" * PART
    held = await status(served, caller(), StatusRequest(upload_id=stream.upload_id))
    assert [part.part_number for part in held.uploaded] == [1, 3, 4]
    with pytest.raises(Problem) as refused:
        await finish_stream(served, stream, DATA)
    assert (refused.value.code, refused.value.parts) == ("parts_missing", (2,))
    assert body(store, "s") is None


async def test_a_stream_begun_without_md5s_is_not_finished_so(store: MemoryStore) -> None:
    stream = await stream_in(bucket(store), store, DATA)
    with pytest.raises(Problem) as refused:
        await finish_stream(bucket(store, tier="md5", commit_by_put=False), stream, DATA)
    assert refused.value.code == "upload_gone"
    assert body(store, "s") is None


class LateEnd(MemoryStore):
    """While `slow`, a write of a stream's hash is not answered; `arrive` lets it reach the bucket."""

    slow = False
    lands = False

    async def put_small(self, key: str, body: bytes, **more: Any) -> str:
        if self.slow and "/streamed/" in key:
            self.arrive = functools.partial(super().put_small, key, body, **more)
            if self.lands:
                await self.arrive()
            raise Transient("no answer", code="Lost")
        return await super().put_small(key, body, **more)


@pytest.mark.parametrize("lands", [True, False], ids=["that had landed", "that lands late"])
async def test_an_end_without_an_answer_is_not_what_a_later_end_says(clock: Clock, lands: bool) -> None:
    """Of two ends of one stream the one that is published is the one whose hash is kept."""
    store = LateEnd(limits=memory_store(clock).limits, clock=clock)
    store.lands = lands
    served = bucket(store)
    stream = await stream_in(served, store, DATA[: 2 * PART])
    store.slow = True
    with pytest.raises(Transient):
        await finish_stream(served, stream, DATA[: 2 * PART])
    store.slow = False
    page = await declare(served, stream, declared(DATA, range(3, 5)))
    assert [await send(store, part, DATA) for part in page.parts] == [200, 200]
    assert (await finish_stream(served, stream, DATA)).status == "complete"
    with pytest.raises(ConditionFailed):
        await store.arrive()
    assert body(store, "s") == DATA
    assert (await describe(served, caller(), Name(b"s"))).file.file_hash == end_of_hash(DATA)


async def test_who_has_lost_the_session_writes_no_end(store: MemoryStore) -> None:
    served = bucket(store)
    stream = await stream_in(served, store, DATA)
    [kept] = await served.sessions.of_key(f"{PREFIX}s")
    held = await served.sessions.move(kept, state="completing", holder="first", size=PART, file_hash=FileHash.of(()))
    assert held is not None
    assert await served.sessions.move(held, state="open", holder="") is not None
    assert (await finish_stream(served, stream, DATA)).status == "complete"
    assert await note_end(served, held) is None
    assert (await describe(served, caller(), Name(b"s"))).file.file_hash == end_of_hash(DATA)
