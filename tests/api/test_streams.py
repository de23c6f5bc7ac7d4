"""Streams on the in-memory store: declared page by page, one list for good, published only as what was declared."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from putgate_api.auth.caller import VERBS, Caller, Rule, owner_id
from putgate_api.files import describe, remove
from putgate_api.fsck.files import Files
from putgate_api.fsck.finding import Looked
from putgate_api.housekeeping.records import Memory, SessionFolder
from putgate_api.housekeeping.tally import Tally
from putgate_api.records.stream_parts import StreamPart, merged
from putgate_api.records.streamed import End
from putgate_api.uploads.abort import abort
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.complete import complete
from putgate_api.uploads.initiate import initiate
from putgate_api.uploads.open_uploads import OpenUploads
from putgate_api.uploads.sign import sign
from putgate_api.uploads.status import status
from putgate_api.uploads.stream import begin_stream, declare_parts
from putgate_protocol.digests import FileHash, Md5, PartHash
from putgate_protocol.messages.abort import AbortRequest
from putgate_protocol.messages.complete import CompleteAnswer, CompleteRequest, Copying
from putgate_protocol.messages.initiate import Exists, Upload
from putgate_protocol.messages.sign import SignAnswer, SignRequest
from putgate_protocol.messages.status import StatusRequest
from putgate_protocol.messages.stream import DeclareRequest, PartDeclaration, StreamRequest
from putgate_protocol.names import Name
from putgate_protocol.parts import Part
from putgate_protocol.problems import Problem
from putgate_storage.errors import Transient
from putgate_storage.memory import MemoryStore
from putgate_storage.store import StoreUpload
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
from tests.api.memory_bucket import request as declaration

DATA = os.urandom(3 * PART + 5)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return memory_store(clock)


async def open_stream(served: Bucket, name: str = "s", part_size: int = PART, **more: Any) -> Upload:
    return await begin_stream(served, caller(), StreamRequest(name=name, part_size=part_size, **more))


def declared(data: bytes, numbers: range | None = None, part_size: int = PART) -> list[PartDeclaration]:
    """Of the whole of `data`, or of these part numbers."""
    pieces = {at // part_size + 1: data[at : at + part_size] for at in range(0, len(data), part_size)}
    return [
        PartDeclaration(
            part_number=number,
            sha256=str(PartHash.of(piece)),
            length=None if len(piece) == part_size else len(piece),
        )
        for number, piece in pieces.items()
        if numbers is None or number in numbers
    ]


async def declare(served: Bucket, stream: Upload, parts: list[PartDeclaration]) -> SignAnswer:
    return await declare_parts(served, caller(), DeclareRequest(upload_id=stream.upload_id, parts=parts))


def end_of(stream: Upload, data: bytes, part_size: int = PART) -> CompleteRequest:
    parts = declared(data, part_size=part_size)
    whole = FileHash.of(PartHash.parse(part.sha256) for part in parts)
    return CompleteRequest(upload_id=stream.upload_id, size=len(data), file_hash=str(whole))


async def finish_stream(served: Bucket, stream: Upload, data: bytes) -> CompleteAnswer | Copying:
    return await complete(served, caller(), end_of(stream, data))


async def stream_in(served: Bucket, store: MemoryStore, data: bytes, name: str = "s", **more: Any) -> Upload:
    """Declared and sent, not completed."""
    stream = await open_stream(served, name, **more)
    for number in range(1, -(-len(data) // PART) + 1):
        page = await declare(served, stream, declared(data, range(number, number + 1)))
        assert [await send(store, part, data) for part in page.parts] == [200]
    return stream


async def left(store: MemoryStore) -> tuple[list[StoreUpload], list[str]]:
    """Open uploads, and the keys below `.putgate/` but those of the index."""
    keys = [key for key in store.objects if "/.putgate/" in key and "/index/" not in key]
    return [found.upload for found in await store.list_uploads("")], keys


async def test_a_stream_is_declared_sent_and_published(store: MemoryStore) -> None:
    served = bucket(store)
    stream = await stream_in(served, store, DATA, content_type="text/x-dump", metadata={"made": "here"})
    assert body(store, "s") is None
    held = await status(served, caller(), StatusRequest(upload_id=stream.upload_id))
    assert (held.status, sum(part.length for part in held.uploaded)) == ("open", len(DATA))
    done = await finish_stream(served, stream, DATA)
    assert isinstance(done, CompleteAnswer)
    assert done.file is not None
    assert (done.status, done.file.size, done.file.content_type) == ("complete", len(DATA), "text/x-dump")
    assert body(store, "s") == DATA
    assert await finish_stream(served, stream, DATA) == done
    held = await status(served, caller(), StatusRequest(upload_id=stream.upload_id))
    assert (held.status, held.size, len(held.uploaded)) == ("done", len(DATA), 4)


async def test_a_streamed_file_is_described_like_any_other(store: MemoryStore) -> None:
    served = bucket(store)
    await finish_stream(served, await stream_in(served, store, DATA), DATA)
    found = await describe(served, caller(), Name(b"s"))
    assert found.content is not None
    assert (found.file.file_hash, found.content.part_size) == (end_of_hash(DATA), PART)
    again = await initiate(served, caller(), declaration("s", DATA))
    assert isinstance(again, Exists)
    assert again.file.file_hash == end_of_hash(DATA)
    # Its parts are known under other names as well.
    assert isinstance(await initiate(served, caller(), declaration("copy", DATA)), Exists)
    assert body(store, "copy") == DATA


def end_of_hash(data: bytes) -> str:
    return str(FileHash.of(PartHash.parse(part.sha256) for part in declared(data)))


async def test_a_number_declared_twice_keeps_its_first_digest(store: MemoryStore) -> None:
    served, other = bucket(store), os.urandom(len(DATA))
    stream = await open_stream(served)
    first = await declare(served, stream, declared(DATA))
    for numbers in (range(2, 3), range(4, 5)):
        with pytest.raises(Problem) as caught:
            await declare(served, stream, declared(other, numbers))
        assert (caught.value.code, caught.value.status) == ("part_redeclared", 409)
    with pytest.raises(Problem, match="part_redeclared"):
        await declare(served, stream, declared(DATA[:-1], range(4, 5)))
    again = await declare(served, stream, declared(DATA))
    assert [part.headers for part in again.parts] == [part.headers for part in first.parts]
    assert await send(store, again.parts[1], other) == 400


async def test_nothing_of_a_page_is_declared_when_one_of_its_parts_cannot_be(store: MemoryStore) -> None:
    served, other = bucket(store), os.urandom(len(DATA))
    stream = await open_stream(served)
    await declare(served, stream, declared(DATA, range(1, 2)))
    with pytest.raises(Problem, match="part_redeclared"):
        await declare(served, stream, declared(other, range(1, 4)))
    await declare(served, stream, declared(DATA, range(2, 4)))


async def test_two_processes_that_race_end_with_one_list(store: MemoryStore) -> None:
    one, two = bucket(store), bucket(store)
    stream = await open_stream(one)
    contents = [os.urandom(20 * PART) for _ in range(8)]
    ends = await asyncio.gather(
        *(
            declare(served, stream, declared(data, range(number, number + 1)))
            for number in range(1, 21)
            for served, data in zip((one, two) * 4, contents, strict=True)
        ),
        return_exceptions=True,
    )
    signed = [part for end in ends if isinstance(end, SignAnswer) for part in end.parts]
    sums = {
        part.part_number: {
            each.headers["x-amz-checksum-sha256"] for each in signed if each.part_number == part.part_number
        }
        for part in signed
    }
    assert all(len(each) == 1 for each in sums.values())
    failures = {end.code for end in ends if isinstance(end, Problem | Transient)}
    assert failures <= {"part_redeclared", "Contended"}
    assert len(sums) >= 1


class LosesAnswers(MemoryStore):
    """Writes of declared parts happen, and their answers get lost."""

    losing = False

    async def put_small(self, key: str, body: bytes, **more: Any) -> str:
        etag = await super().put_small(key, body, **more)
        if self.losing and key.endswith(".parts"):
            raise Transient("the answer was lost", code="Lost")
        return etag


async def test_a_lost_answer_of_the_append_costs_nothing() -> None:
    clock = Clock()
    store = LosesAnswers(limits=memory_store(clock).limits, clock=clock)
    served = bucket(store)
    stream = await open_stream(served)
    store.losing = True
    page = await declare(served, stream, declared(DATA))
    assert [await send(store, part, DATA) for part in page.parts] == [200] * 4
    assert (await finish_stream(served, stream, DATA)).status == "complete"


async def test_nothing_is_signed_that_could_not_be_written() -> None:
    class Refuses(LosesAnswers):
        async def put_small(self, key: str, body: bytes, **more: Any) -> str:
            if self.losing and key.endswith(".parts"):
                raise Transient("no", code="Away")
            return await super().put_small(key, body, **more)

    clock = Clock()
    store = Refuses(limits=memory_store(clock).limits, clock=clock)
    served = bucket(store)
    stream = await open_stream(served)
    store.losing = True
    with pytest.raises(Transient):
        await declare(served, stream, declared(DATA))
    store.losing = False
    other = os.urandom(len(DATA))
    assert len((await declare(served, stream, declared(other))).parts) == 4


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


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ({"part_number": 0}, "part_number_invalid"),
        ({"part_number": 10_001}, "part_number_invalid"),
        ({"length": 0}, "size_invalid"),
        ({"length": PART + 1}, "size_invalid"),
        ({"md5": "x" * 24}, "request_invalid"),
        ({"sha256": "Z" * 64}, "request_invalid"),
    ],
)
async def test_what_no_part_can_be_is_refused(store: MemoryStore, part: dict[str, Any], code: str) -> None:
    served = bucket(store)
    stream = await open_stream(served)
    with pytest.raises(Problem) as caught:
        await declare(served, stream, [PartDeclaration(**({"part_number": 1, "sha256": "0" * 64} | part))])
    assert caught.value.code == code


async def test_an_md5_is_kept_and_signed(store: MemoryStore) -> None:
    served = bucket(store)
    stream = await open_stream(served)
    part = PartDeclaration(part_number=1, sha256="0" * 64, md5="AAECAwQFBgcICQoLDA0ODw==")
    for _ in range(2):
        page = await declare(served, stream, [part])
        assert {key.lower(): value for key, value in page.parts[0].headers.items()}["content-md5"] == part.md5
    with pytest.raises(Problem, match="part_redeclared"):
        await declare(served, stream, [part.model_copy(update={"md5": None})])


@pytest.mark.parametrize("part_size", [PART - 1, PART + 1, 3 * PART, 0, -PART, 2**40 * PART])
async def test_part_sizes_are_the_base_doubled(store: MemoryStore, part_size: int) -> None:
    with pytest.raises(Problem) as caught:
        await open_stream(bucket(store), part_size=part_size)
    assert caught.value.code == "part_size_mismatch"


async def test_a_stream_may_have_larger_parts_than_its_size_would_need(store: MemoryStore) -> None:
    served = bucket(store)
    stream = await open_stream(served, part_size=4 * PART)
    page = await declare(served, stream, declared(DATA, part_size=4 * PART))
    assert await send(store, page.parts[0], DATA) == 200
    assert (await complete(served, caller(), end_of(stream, DATA, 4 * PART))).status == "complete"
    found = await describe(served, caller(), Name(b"s"))
    assert found.content is not None
    assert found.content.part_size == 4 * PART


def limited(most: int, prefix: str = "mine/") -> Caller:
    rule = Rule(verbs=frozenset(VERBS), prefixes=(prefix,), max_object_size=most)
    return Caller(owner=owner_id("test", "limited"), subject="limited", rules=(rule,))


async def test_a_caller_may_stream_only_where_and_as_much_as_they_may_upload(store: MemoryStore) -> None:
    served, who = bucket(store), limited(3 * PART)
    with pytest.raises(Problem, match="forbidden"):
        await begin_stream(served, who, StreamRequest(name="other/s", part_size=PART))
    stream = await begin_stream(served, who, StreamRequest(name="mine/s", part_size=PART))
    good = DeclareRequest(upload_id=stream.upload_id, parts=declared(DATA, range(1, 4)))
    await declare_parts(served, who, good)
    with pytest.raises(Problem, match="too_large"):
        await declare_parts(served, who, DeclareRequest(upload_id=stream.upload_id, parts=declared(DATA)))
    with pytest.raises(Problem, match="too_large"):
        await complete(served, who, end_of(stream, DATA))
    with pytest.raises(Problem, match="begun by somebody else"):
        await declare_parts(served, caller(), good)


async def test_the_bucket_s_own_limits_hold(store: MemoryStore) -> None:
    served = bucket(store)
    small = replace(served, limits=replace(served.limits, max_object_size=2 * PART, allowed_content_types=("a/b",)))
    with pytest.raises(Problem, match="content_type_refused"):
        await open_stream(small, content_type="text/plain")
    stream = await open_stream(small, content_type="a/b")
    await declare(small, stream, declared(DATA, range(1, 3)))
    with pytest.raises(Problem, match="too_large"):
        await declare(small, stream, declared(DATA, range(3, 4)))
    closed = replace(served, closed="the probe has not passed")
    for call in (open_stream(closed), declare(closed, stream, declared(DATA, range(1, 2)))):
        with pytest.raises(Problem, match="not_ready"):
            await call


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


async def test_a_store_without_conditional_writes_has_no_streams(store: MemoryStore) -> None:
    with pytest.raises(Problem, match="precondition_unsupported"):
        await open_stream(bucket(store, conditional_put=False))


async def test_the_calls_of_one_kind_of_upload_are_not_those_of_the_other(store: MemoryStore) -> None:
    served = bucket(store)
    stream = await open_stream(served)
    with pytest.raises(Problem, match="request_invalid"):
        await sign(served, caller(), SignRequest(upload_id=stream.upload_id, part_numbers=[1]))
    ordinary = await begin(served, "x", DATA)
    with pytest.raises(Problem, match="request_invalid"):
        await declare(served, ordinary, declared(DATA, range(1, 2)))


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


PARTS = st.builds(
    StreamPart,
    number=st.integers(1, 6),
    length=st.sampled_from([PART, PART, PART, 3]),
    sha256=st.sampled_from([PartHash(bytes([at]) * 32) for at in range(2)]),
    md5=st.none() | st.just(b"m" * 16),
)


@given(st.lists(st.lists(PARTS, min_size=1, max_size=4), max_size=12))
def test_whatever_is_declared_a_number_never_changes(pages: list[list[StreamPart]]) -> None:
    known: dict[int, StreamPart] = {}
    for page in pages:
        try:
            after = dict(merged(known, page, PART))
        except Problem:
            continue
        assert {number: after[number] for number in known} == known
        assert all(part.length == PART for number, part in after.items() if number < max(after))
        known = after


# --- on a store that checks MD5 only ---


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


async def test_a_stream_counts_among_its_owners_open_uploads(store: MemoryStore) -> None:
    served = replace(bucket(store), open_uploads=OpenUploads(most=1, clock=lambda: 0.0))
    await open_stream(served, "one")
    with pytest.raises(Problem) as refused:
        await open_stream(served, "two")
    assert (refused.value.code, refused.value.status) == ("too_many_uploads", 429)
