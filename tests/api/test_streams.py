"""Streams on the in-memory store: declared page by page, one list for good."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from putgate_api.auth.caller import VERBS, Caller, Rule, owner_id
from putgate_api.files import describe
from putgate_api.records.stream_parts import StreamPart, merged
from putgate_api.uploads.complete import complete
from putgate_api.uploads.initiate import initiate
from putgate_api.uploads.open_uploads import OpenUploads
from putgate_api.uploads.sign import sign
from putgate_api.uploads.status import status
from putgate_api.uploads.stream import begin_stream, declare_parts
from putgate_protocol.digests import PartHash
from putgate_protocol.messages.complete import CompleteAnswer
from putgate_protocol.messages.initiate import Exists
from putgate_protocol.messages.sign import SignAnswer, SignRequest
from putgate_protocol.messages.status import StatusRequest
from putgate_protocol.messages.stream import DeclareRequest, PartDeclaration, StreamRequest
from putgate_protocol.names import Name
from putgate_protocol.problems import Problem
from putgate_storage.errors import Transient
from putgate_storage.memory import MemoryStore
from tests.api.memory_bucket import (
    PART,
    Clock,
    begin,
    body,
    bucket,
    caller,
    memory_store,
    send,
)
from tests.api.memory_bucket import request as declaration
from tests.api.memory_streams import DATA, declare, declared, end_of, end_of_hash, finish_stream, open_stream, stream_in


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return memory_store(clock)


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


async def test_a_stream_counts_among_its_owners_open_uploads(store: MemoryStore) -> None:
    served = replace(bucket(store), open_uploads=OpenUploads(most=1, clock=lambda: 0.0))
    await open_stream(served, "one")
    with pytest.raises(Problem) as refused:
        await open_stream(served, "two")
    assert (refused.value.code, refused.value.status) == ("too_many_uploads", 429)
