"""Known content is copied inside the store, for who may have it and for nobody else. On the in-memory store."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import pytest

from putgate_api.records.index import Indexed
from putgate_api.uploads import copying as copying_module
from putgate_api.uploads.abort import abort
from putgate_api.uploads.batch import batch
from putgate_api.uploads.complete import complete
from putgate_api.uploads.copying import PER_CALL
from putgate_api.uploads.initiate import initiate
from putgate_api.uploads.status import status
from putgate_protocol.digests import FileHash
from putgate_protocol.messages.abort import AbortRequest
from putgate_protocol.messages.complete import CompleteAnswer, CompleteRequest, Copying
from putgate_protocol.messages.initiate import Exists, Upload
from putgate_protocol.messages.status import StatusRequest
from putgate_protocol.problems import Problem
from putgate_storage.errors import Permanent, Refused, StoreError, Transient
from putgate_storage.memory import MemoryStore
from putgate_storage.store import CopiedPart, StoreUpload
from putgate_storage.wrap.wrapped import Operation, wrap
from tests.api.known_content import (
    CopyingStore,
    Sent,
    index_keys,
    index_of,
    index_scopes,
    rewrite_index,
    session_keys,
    stranger,
    upload,
)
from tests.api.memory_bucket import PART, PREFIX, Clock, begin, body, bucket, caller, finish, put_parts, request, send

T = TypeVar("T")

NOTHING = Sent(bytes=0, parts=0, copying=0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> CopyingStore:
    return CopyingStore(clock)


async def nothing_left(store: MemoryStore) -> None:
    """No open upload, and of each session only its last note."""
    assert await store.list_uploads("") == []
    assert [key for key in session_keys(store) if not key.endswith(".json")] == []


def normalized(answer: Any) -> dict[str, Any]:
    """An answer without what differs from any call to the next."""
    wire: dict[str, Any] = answer.to_wire()
    wire.pop("upload_id")
    for part in wire["parts"]:
        part.pop("url")
        part["headers"].pop("x-amz-meta-putgate-upload", None)
    return wire


# --- found


@pytest.mark.parametrize("size", [1, PART, PART + 1, 20 * PART, 20 * PART + 3])
async def test_an_owners_duplicate_sends_nothing(store: CopyingStore, size: int) -> None:
    served, data = bucket(store), os.urandom(size)
    await upload(served, store, "first", data)
    assert await upload(served, store, "folder/second", data) == NOTHING
    assert body(store, "folder/second") == body(store, "first") == data
    await nothing_left(store)


async def test_what_is_registered_names_the_parts_and_the_newest_name(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom(2 * PART + 1)
    await upload(served, store, "first", data)
    await upload(served, store, "second \u00e9", data)
    slices = [data[:PART], data[PART : 2 * PART], data[2 * PART :]]
    assert index_of(store) == {
        "v": 1,
        "name": "second \u00e9",
        "size": len(data),
        "part_size": PART,
        "parts": [hashlib.sha256(each).hexdigest() for each in slices],
        "etags": [hashlib.md5(each).hexdigest() for each in slices],
        "owner": caller().owner,
        "nonce": store.objects[f"{PREFIX}second \u00e9"].headers.metadata["putgate-upload"],
    }
    (key,) = index_keys(store)
    file_hash = request("x", data).file_hash
    assert key == f"{PREFIX}.putgate/v1/index/{caller().owner}/{file_hash[:2]}/{file_hash}.json"


async def test_a_file_that_one_put_committed_is_found_once_it_is_confirmed(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom(PART)
    answer = await begin(served, "first", data)
    assert answer.commit == "put"
    await put_parts(store, answer, data)
    assert index_keys(store) == []
    await finish(served, answer)
    assert await upload(served, store, "second", data) == NOTHING
    assert store.copied == [(f"{PREFIX}first", 1, None)]
    assert store.conditions == {store.objects[f"{PREFIX}first"].etag}


async def test_a_duplicate_of_a_duplicate_outlives_the_first(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom(3 * PART)
    await upload(served, store, "first", data)
    await upload(served, store, "second", data)
    await store.delete(f"{PREFIX}first")
    assert await upload(served, store, "third", data) == NOTHING


async def test_many_parts_are_copied_some_with_each_call(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom(2 * PER_CALL * PART + 1)
    await upload(served, store, "first", data)
    answer = await initiate(served, caller(), request("second", data))
    assert isinstance(answer, Copying)
    assert answer.retry_after > 0
    assert len(store.copied) == PER_CALL
    shown = await status(served, caller(), StatusRequest(upload_id=answer.upload_id))
    assert [part.part_number for part in shown.uploaded] == list(range(1, PER_CALL + 1))
    again = await complete(served, caller(), CompleteRequest(upload_id=answer.upload_id))
    assert isinstance(again, Copying)
    done = await complete(served, caller(), CompleteRequest(upload_id=again.upload_id))
    assert isinstance(done, CompleteAnswer)
    assert body(store, "second") == data
    assert len(store.copied) == 2 * PER_CALL + 1
    await nothing_left(store)


async def test_a_call_that_takes_long_begins_no_further_copy(
    store: CopyingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying_module, "_CALL_SECONDS", 0.0)
    served, data = bucket(store), os.urandom(20 * PART)
    await upload(served, store, "first", data)
    assert isinstance(await initiate(served, caller(), request("second", data)), Copying)
    assert 1 <= len(store.copied) <= 8
    sent = await upload(served, store, "second", data)
    assert (sent.bytes, body(store, "second")) == (0, data)
    assert len(store.copied) == 20


async def test_copying_keeps_a_session_alive(store: CopyingStore, clock: Clock) -> None:
    served, data = bucket(store), os.urandom((2 * PER_CALL + 1) * PART)
    await upload(served, store, "first", data)
    answer = await initiate(served, caller(), request("second", data))
    for expected in (Copying, CompleteAnswer):
        assert isinstance(answer, Copying)
        clock.move(hours=20)
        answer = await complete(served, caller(), CompleteRequest(upload_id=answer.upload_id))
        assert isinstance(answer, expected)


async def test_a_batch_copies_and_completes(store: CopyingStore) -> None:
    served = bucket(store)
    contents = [os.urandom(3 * PART), os.urandom(PART)]
    for at, data in enumerate(contents):
        await upload(served, store, f"first-{at}", data)
    items = [
        {"initiate": request(f"second-{at}", data).model_dump(exclude_none=True)} for at, data in enumerate(contents)
    ]
    outcomes = await batch(served, caller(), items)
    assert len(outcomes) == 2
    assert all(isinstance(outcome, Exists) for outcome in outcomes)
    assert [body(store, f"second-{at}") for at in range(2)] == contents


async def test_the_metadata_of_a_copy_is_its_own(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom(3 * PART)
    first = await begin(served, "first", data, content_type="text/plain", metadata={"mine": "1"})
    await put_parts(store, first, data)
    await finish(served, first)
    more: dict[str, Any] = {"content_type": "image/png", "metadata": {"mine": "2"}}
    assert isinstance(await initiate(served, caller(), request("second", data, **more)), Exists)
    headers = store.objects[f"{PREFIX}second"].headers
    assert (headers.content_type, headers.metadata["mine"]) == ("image/png", "2")
    assert headers.metadata["putgate-upload"] != store.objects[f"{PREFIX}first"].headers.metadata["putgate-upload"]


# --- changed


def changed(data: bytes, *numbers: int) -> bytes:
    """The same with the first byte of these parts flipped."""
    other = bytearray(data)
    for number in numbers:
        other[(number - 1) * PART] ^= 1
    return bytes(other)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        (40 * PART, lambda data: changed(data, 20), 1),
        (40 * PART + 5, lambda data: changed(data, 1, 41), 2),
        (40 * PART + 5, lambda data: data + b"grown", 1),
        (40 * PART, lambda data: data + b"grown" * PART, 5),
        (40 * PART, lambda data: data[: 10 * PART + 3], 1),
        (PART, lambda data: data + b"grown", 1),
        ((2 * PER_CALL + 3) * PART, lambda data: changed(data, 7), 1),
    ],
    ids=["middle", "ends", "grown", "grown by parts", "cut", "of one part", "many"],
)
async def test_only_what_has_changed_is_sent(
    store: CopyingStore, old: int, new: Callable[[bytes], bytes], parts: int
) -> None:
    served, data = bucket(store, commit_by_put=False), os.urandom(old)
    await upload(served, store, "x", data)
    other = new(data)
    assert (await upload(served, store, "x", other)).parts == parts
    assert body(store, "x") == other
    # What was put together is found as a whole, too.
    assert (await upload(served, store, "y", other)).bytes == 0
    await nothing_left(store)


async def test_a_shifted_file_is_sent_whole(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom(10 * PART)
    await upload(served, store, "x", data)
    assert (await upload(served, store, "x", b"-" + data)).bytes == len(data) + 1
    assert store.copied == []


async def test_the_old_file_stays_until_the_new_one_is_whole(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom(10 * PART)
    await upload(served, store, "x", data)
    other = changed(data, 5)
    answer = await begin(served, "x", other)
    assert [part.part_number for part in answer.parts] == [5]
    assert [part.part_number for part in answer.uploaded] == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert body(store, "x") == data
    await put_parts(store, answer, other)
    await finish(served, answer)
    assert body(store, "x") == other


async def test_parts_that_must_be_sent_are_named_once_nothing_is_left_to_copy(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom((PER_CALL + 5) * PART)
    await upload(served, store, "x", data)
    other = changed(data, 3, PER_CALL + 2)
    answer = await initiate(served, caller(), request("x", other))
    assert isinstance(answer, Copying)
    with pytest.raises(Problem, match="parts_missing") as missing:
        await complete(served, caller(), CompleteRequest(upload_id=answer.upload_id))
    assert missing.value.parts == (3, PER_CALL + 2)
    again = await begin(served, "x", other)
    assert [part.part_number for part in again.parts] == [3, PER_CALL + 2]


async def test_somebody_who_may_not_read_the_old_file_learns_nothing_of_its_parts(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom(10 * PART)
    await upload(served, store, "x", data)
    await upload(served, store, "y", os.urandom(10 * PART))
    other = changed(data, 5)
    calls: list[str] = []
    watched = bucket(wrap(store, _noting(calls)))
    over_known = await initiate(watched, stranger(), request("x", other))
    seen, calls[:] = list(calls), []
    over_unknown = await initiate(watched, stranger(subject="another"), request("y", other))
    assert normalized(over_known) == normalized(over_unknown)
    assert seen == calls
    assert store.copied == []


async def test_somebody_who_may_read_the_old_file_sends_only_what_has_changed(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom(10 * PART)
    await upload(served, store, "shared/x", data)
    assert (await upload(served, store, "shared/x", changed(data, 5), stranger("shared/"))).parts == 1
    assert body(store, "shared/x") == changed(data, 5)


# --- who may have it


@pytest.mark.parametrize("scope", ["Owner", "Bucket", "Disabled"])
@pytest.mark.parametrize("size", [PART, 5 * PART])
async def test_known_content_looks_unknown_to_who_may_not_have_it(
    store: CopyingStore, scope: Any, size: int, clock: Clock
) -> None:
    served, data = bucket(store, scope=scope), os.urandom(size)
    await upload(served, store, "first", data)
    calls: list[str] = []
    watched = bucket(wrap(store, _noting(calls)), scope=scope)
    known = await initiate(watched, stranger("elsewhere/"), request("mine/x", data))
    seen, calls[:] = list(calls), []
    fresh = CopyingStore(clock)
    unknown = await initiate(
        bucket(wrap(fresh, _noting(calls)), scope=scope), stranger("elsewhere/"), request("mine/x", data)
    )
    assert isinstance(known, Upload)
    assert normalized(known) == normalized(unknown)
    # Not even how long it takes tells: the store is asked the same.
    assert seen == calls
    assert store.copied == []


async def test_in_the_scope_of_the_bucket_who_may_download_it_sends_nothing(store: CopyingStore) -> None:
    served, data = bucket(store, scope="Bucket"), os.urandom(5 * PART)
    await upload(served, store, "shared/first", data)
    reader = stranger("shared/")
    assert await upload(served, store, "mine/second", data, reader) == NOTHING
    assert body(store, "mine/second") == data
    assert index_scopes(store) == {"bucket", caller().owner, reader.owner}
    assert store.objects[f"{PREFIX}mine/second"].headers.metadata["putgate-owner"] == reader.owner


@pytest.mark.parametrize("size", [PART, 5 * PART])
async def test_in_the_scope_of_the_bucket_nobody_learns_that_somebody_else_stores_the_same(
    store: CopyingStore, size: int, clock: Clock
) -> None:
    """Neither may read what the other has; the hint that all share is the other's by now."""
    data, one, other = os.urandom(size), stranger("one/", subject="one"), stranger("other/", subject="other")
    seen: list[list[str]] = []
    for shared, both in ((store, True), (CopyingStore(clock), False)):
        served = bucket(shared, scope="Bucket")
        await upload(served, shared, "one/first", data, one)
        if both:
            assert (await upload(served, shared, "other/first", data, other)).bytes == len(data)
        calls: list[str] = []
        assert await upload(bucket(wrap(shared, _noting(calls)), scope="Bucket"), shared, "one/2", data, one) == NOTHING
        assert body(shared, "one/2") == data
        seen.append(calls)
    assert seen[0] == seen[1]
    assert await upload(bucket(store, scope="Bucket"), store, "other/2", data, other) == NOTHING


@pytest.mark.parametrize("both", [True, False])
async def test_in_the_scope_of_the_bucket_a_changed_file_is_compared_by_its_owners_hint_only(
    store: CopyingStore, both: bool
) -> None:
    """Without that, whether its old content is known would tell that somebody else stores it."""
    data, one, other = os.urandom(5 * PART), stranger("one/", subject="one"), stranger("other/", subject="other")
    served = bucket(store, scope="Bucket")
    await upload(served, store, "one/x", data, one)
    for key in index_keys(store):
        await store.delete(key)
    if both:
        await upload(served, store, "other/x", data, other)
    answer = await initiate(served, one, request("one/x", changed(data, 2)))
    assert isinstance(answer, Upload)
    assert (answer.uploaded, store.copied) == ([], [])


@pytest.mark.parametrize("name", ["shared/x", "shared/y"])
async def test_in_the_scope_of_the_bucket_a_changed_duplicate_sends_only_what_has_changed(
    store: CopyingStore, name: str
) -> None:
    """Its owner's hint names the last of the two."""
    served, data = bucket(store, scope="Bucket"), os.urandom(5 * PART)
    await upload(served, store, "shared/x", data)
    await upload(served, store, "shared/y", data)
    assert (await upload(served, store, name, changed(data, 2), stranger("shared/"))).bytes == PART


async def test_in_the_scope_of_the_bucket_a_hint_that_all_share_is_enough(store: CopyingStore) -> None:
    """Older versions have written no other."""
    served, data = bucket(store, scope="Bucket"), os.urandom(5 * PART)
    await upload(served, store, "x", data)
    for key in index_keys(store):
        if "/index/bucket/" not in key:
            await store.delete(key)
    assert index_scopes(store) == {"bucket"}
    assert (await upload(served, store, "x", changed(data, 2))).bytes == PART
    assert await upload(served, store, "x", data) != NOTHING, "nothing holds it any more"
    await store.delete(next(key for key in index_keys(store) if "/index/bucket/" not in key))
    assert await upload(served, store, "y", data) == NOTHING


async def test_in_the_scope_of_owners_even_a_readable_duplicate_is_sent(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom(5 * PART)
    await upload(served, store, "shared/first", data)
    assert (await upload(served, store, "mine/second", data, stranger("shared/"))).bytes == len(data)


async def test_a_right_that_is_taken_away_while_parts_are_copied_ends_the_copying(store: CopyingStore) -> None:
    served, data = bucket(store, scope="Bucket"), os.urandom((PER_CALL + 3) * PART)
    await upload(served, store, "shared/first", data)
    answer = await initiate(served, stranger("shared/"), request("mine/x", data))
    assert isinstance(answer, Copying)
    copied = len(store.copied)
    with pytest.raises(Problem, match="upload_gone"):
        await complete(served, stranger(), CompleteRequest(upload_id=answer.upload_id))
    assert len(store.copied) == copied
    assert (await upload(served, store, "mine/x", data, stranger())).bytes == len(data)


@pytest.mark.parametrize("how", ["disabled", "no part copies", "too small", "precondition"])
async def test_nothing_is_copied_where_nothing_may_be(store: CopyingStore, how: str) -> None:
    data = os.urandom(3 * PART)
    served = bucket(
        store,
        scope="Disabled" if how == "disabled" else "Owner",
        part_copy=how != "no part copies",
        conditional_complete=how != "precondition",
    )
    if how == "too small":
        served = replace(served, limits=replace(served.limits, instant_min_size=len(data) + 1))
    await upload(served, store, "first", data)
    if how == "precondition":
        with pytest.raises(Problem, match="precondition_unsupported"):
            await initiate(served, caller(), request("second", data, if_absent=True))
    else:
        assert index_keys(store) == []
        assert served.part_limit().instant_min_size > len(data)
        assert (await upload(served, store, "second", data)).bytes == len(data)
    assert store.copied == []


async def test_a_copy_keeps_its_precondition(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom((PER_CALL + 1) * PART)
    await upload(served, store, "first", data)
    answer = await initiate(served, caller(), request("second", data, if_absent=True))
    assert isinstance(answer, Copying)
    await upload(served, store, "second", b"somebody else's")
    with pytest.raises(Problem, match="precondition_failed"):
        await complete(served, caller(), CompleteRequest(upload_id=answer.upload_id))
    assert body(store, "second") == b"somebody else's"
    await nothing_left(store)


# --- hints that are none


async def _deleted(store: CopyingStore) -> None:
    await store.delete(f"{PREFIX}first")


async def _overwritten(store: CopyingStore) -> None:
    await store.put_small(f"{PREFIX}first", b"other")


async def _overwritten_by_us(store: CopyingStore) -> None:
    stored = store.objects[f"{PREFIX}first"]
    metadata = {**stored.headers.metadata, "putgate-upload": "0" * 32}
    store.objects[f"{PREFIX}first"] = replace(stored, headers=replace(stored.headers, metadata=metadata))


async def _not_json(store: CopyingStore) -> None:
    await store.put_small(index_keys(store)[0], b"{")


async def _too_large(store: CopyingStore) -> None:
    await store.put_small(index_keys(store)[0], b" " * (3 * 1024 * 1024))


def _rewritten(**changes: object) -> Callable[[CopyingStore], Awaitable[None]]:
    async def spoil(store: CopyingStore) -> None:
        await rewrite_index(store, **changes)

    return spoil


HINTS = {
    "deleted": _deleted,
    "overwritten": _overwritten,
    "overwritten by us": _overwritten_by_us,
    "not JSON": _not_json,
    "too large": _too_large,
    "another version": _rewritten(v=2),
    "another size": _rewritten(size=5 * PART - 1),
    "other parts": _rewritten(parts=["0" * 64] * 5),
    "too few parts": _rewritten(parts=[]),
    "too few ETags": _rewritten(etags=["0" * 32] * 4),
    "no MD5": _rewritten(etags=["0" * 32 + "-1"] * 5),
    "no name": _rewritten(name=None),
    "a name of ours": _rewritten(name=".putgate/v1/bucket.json"),
    "another name": _rewritten(name="third"),
    "another nonce": _rewritten(nonce="0" * 32),
    "wrong ETags": _rewritten(etags=["0" * 32] * 5),
}


@pytest.mark.parametrize("spoil", HINTS.values(), ids=HINTS.keys())
async def test_a_hint_that_does_not_hold_is_as_if_it_were_absent_and_written_anew(
    store: CopyingStore, spoil: Callable[[CopyingStore], Awaitable[None]]
) -> None:
    served, data = bucket(store), os.urandom(5 * PART)
    await upload(served, store, "first", data)
    await spoil(store)
    assert (await upload(served, store, "second", data)).bytes == len(data)
    assert body(store, "second") == data
    assert await upload(served, store, "third", data) == NOTHING
    await nothing_left(store)


@pytest.mark.parametrize("error", [Transient("5xx", code="InternalError"), Permanent("denied", code="AccessDenied")])
async def test_a_store_that_does_not_say_what_is_known_gets_a_normal_upload(
    store: CopyingStore, error: StoreError
) -> None:
    served, data = bucket(store), os.urandom(5 * PART)
    await upload(served, store, "first", data)
    store.index_fails = error
    assert (await upload(served, store, "second", data)).bytes == len(data)


@pytest.mark.parametrize("size", [PART, 5 * PART])
async def test_a_hint_that_cannot_be_written_undoes_nothing(store: CopyingStore, size: int) -> None:
    served, data = bucket(store), os.urandom(size)
    store.index_fails = Transient("5xx", code="InternalError")
    assert (await upload(served, store, "first", data)).bytes == size
    assert body(store, "first") == data
    assert index_keys(store) == []
    assert (await upload(served, store, "second", data)).bytes == size
    await nothing_left(store)


def test_a_registered_file_has_a_part_for_each_etag() -> None:
    empty = FileHash.of(())
    with pytest.raises(ValueError, match="as many ETags"):
        Indexed(
            file_hash=empty,
            name=cast("Any", None),
            size=0,
            part_size=PART,
            parts=(),
            etags=(),
            owner="o",
            nonce="n",
        )


# --- copies that are none


class OtherBytes(CopyingStore):
    """Says that it has copied, and holds something else of the same length."""

    def instead(self, upload: StoreUpload, number: int, true: CopiedPart) -> CopiedPart:
        self.put(upload, number, bytes(len(self.held(upload, number))))
        return true


class Empty(CopyingStore):
    """As rclone: 200, and a part of no bytes."""

    def instead(self, upload: StoreUpload, number: int, true: CopiedPart) -> CopiedPart:
        self.put(upload, number, b"")
        return replace(true, sha256=None)


class OtherETag(CopyingStore):
    def instead(self, upload: StoreUpload, number: int, true: CopiedPart) -> CopiedPart:
        return replace(true, etag="0" * 32, sha256=None)


class OtherDigest(CopyingStore):
    def instead(self, upload: StoreUpload, number: int, true: CopiedPart) -> CopiedPart:
        return replace(true, sha256=cast("Any", FileHash.of((b"other",))))


class Nothing(CopyingStore):
    """Says that it has copied, and holds nothing."""

    def instead(self, upload: StoreUpload, number: int, true: CopiedPart) -> CopiedPart:
        del self._uploads[upload.upload_id].parts[number]
        return true


class Refuses(CopyingStore):
    def instead(self, upload: StoreUpload, number: int, true: CopiedPart) -> CopiedPart:
        raise Refused("no", code="InvalidRequest")


class NeverAnswers(CopyingStore):
    def instead(self, upload: StoreUpload, number: int, true: CopiedPart) -> CopiedPart:
        self.put(upload, number, bytes(len(self.held(upload, number))))
        raise Transient("no answer", code="Timeout")


LIARS = [OtherBytes, Empty, OtherETag, OtherDigest, Nothing, Refuses, NeverAnswers]


@pytest.mark.parametrize("liar", LIARS)
@pytest.mark.parametrize(("parts", "honest"), [(1, 0), (5, 0), (5, 4), (PER_CALL + 6, 0), (PER_CALL + 6, PER_CALL + 3)])
async def test_copies_that_are_none_become_a_normal_upload(
    clock: Clock, liar: type[CopyingStore], parts: int, honest: int
) -> None:
    store = liar(clock, honest=honest)
    served, data = bucket(store), os.urandom(parts * PART)
    await upload(served, store, "first", data)
    assert (await upload(served, store, "second", data)).bytes == len(data)
    assert body(store, "second") == data
    assert await store.list_uploads("") == []


@pytest.mark.parametrize("liar", LIARS)
async def test_the_first_call_falls_back_by_itself(clock: Clock, liar: type[CopyingStore]) -> None:
    store = liar(clock)
    served, data = bucket(store), os.urandom(5 * PART)
    await upload(served, store, "first", data)
    answer = await initiate(served, caller(), request("second", data))
    assert isinstance(answer, Upload)
    assert (answer.uploaded, len(answer.parts)) == ([], 5)
    # Its parts are kept by a second call: copying is not tried again behind the client's back.
    await send(store, answer.parts[0], data)
    again = await begin(served, "second", data)
    assert [part.part_number for part in again.uploaded] == [1]


@pytest.mark.parametrize("how", [_deleted, _overwritten])
async def test_a_source_that_goes_away_while_it_is_copied(
    store: CopyingStore, how: Callable[[CopyingStore], Awaitable[None]]
) -> None:
    served, data = bucket(store), os.urandom((PER_CALL + 6) * PART)
    await upload(served, store, "first", data)
    answer = await initiate(served, caller(), request("second", data))
    assert isinstance(answer, Copying)
    await how(store)
    with pytest.raises(Problem, match="upload_gone"):
        await complete(served, caller(), CompleteRequest(upload_id=answer.upload_id))
    assert (await upload(served, store, "second", data)).bytes == len(data)
    assert body(store, "second") == data


async def test_a_source_that_goes_away_between_the_look_and_the_copy(store: CopyingStore) -> None:
    data = os.urandom(5 * PART)
    await upload(bucket(store), store, "first", data)

    async def then(call: str) -> None:
        if call == "copy_part":
            await _overwritten(store)

    served = bucket(wrap(store, _before(then)))
    assert (await upload(served, store, "second", data)).bytes == len(data)
    assert body(store, "second") == data
    await nothing_left(store)


# --- crashes


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("liar", [CopyingStore, OtherBytes, Empty, NeverAnswers])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("parts", "new", "per_call"), [(1, (), PER_CALL), (5, (), PER_CALL), (5, (), 2), (5, (2,), 2)])
async def test_the_process_dies_at_each_call_to_the_store(
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    liar: type[CopyingStore],
    when: str,
    parts: int,
    new: tuple[int, ...],
    per_call: int,
) -> None:
    monkeypatch.setattr(copying_module, "PER_CALL", per_call)
    data = os.urandom(parts * PART)
    other, name = changed(data, *new), "x" if new else "y"
    for at in range(1, 1000):
        store = liar(clock)
        await upload(bucket(store), store, "x", data)
        calls = 0

        async def die(_: Operation, call: Callable[[], Awaitable[T]], at: int = at) -> T:
            nonlocal calls
            calls += 1
            this = calls == at
            if this and when == "before":
                raise Killed
            try:
                return await call()
            finally:
                if this:
                    raise Killed

        try:
            await upload(bucket(wrap(store, die)), store, name, other, clock=clock)
        except Killed:
            clock.move(seconds=61)
            sent = await upload(bucket(store), store, name, other, clock=clock)
            assert body(store, name) == other
            assert await store.list_uploads("") == []
            if liar is CopyingStore:
                assert sent.parts <= len(new)
        else:
            assert at > 15
            return
    raise AssertionError("it never ends")


async def test_a_copy_that_nobody_has_looked_at_does_not_count(clock: Clock) -> None:
    """The process died between a wrong copy and its comparison; whoever comes next must not complete it."""
    store = OtherBytes(clock)
    data = os.urandom((PER_CALL + 5) * PART)
    await upload(bucket(store), store, "x", data)

    async def then(call: str) -> None:
        if call == "list_parts" and store.copied:
            raise Killed

    with pytest.raises(Killed):
        await initiate(bucket(wrap(store, _before(then))), caller(), request("y", data))
    assert len(store.copied) == PER_CALL
    (left,) = await store.list_uploads("")
    stored = await store.list_parts(left.upload)
    assert stored is not None
    assert [part.size for part in stored] == [PART] * PER_CALL
    answer = await begin(bucket(store), "y", data)
    assert answer.uploaded == []


async def test_a_part_that_a_client_has_sent_counts_like_its_copy(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom((2 * PER_CALL + 5) * PART)
    await upload(served, store, "x", data)
    answer = await initiate(served, caller(), request("y", data))
    assert isinstance(answer, Copying)
    (left,) = await store.list_uploads("")
    for number in range(PER_CALL + 1, 2 * PER_CALL + 6):
        store.put(left.upload, number, data[(number - 1) * PART : number * PART])
    assert isinstance(await complete(served, caller(), CompleteRequest(upload_id=answer.upload_id)), CompleteAnswer)
    assert len(store.copied) == PER_CALL


@pytest.mark.parametrize("end", ["lost", "of another attempt"])
async def test_without_the_record_of_its_copies_an_upload_begins_anew(store: CopyingStore, end: str) -> None:
    served, data = bucket(store), os.urandom((PER_CALL + 5) * PART)
    await upload(served, store, "x", data)
    answer = await initiate(served, caller(), request("y", data))
    assert isinstance(answer, Copying)
    (key,) = [key for key in session_keys(store) if key.endswith(".copies")]
    if end == "lost":
        await store.delete(key)
    else:
        nonce = store.objects[key].body.partition(b'"nonce":"')[2][:32]
        await store.put_small(key, store.objects[key].body.replace(nonce, b"0" * 32))
    for call in (
        complete(served, caller(), CompleteRequest(upload_id=answer.upload_id)),
        status(served, caller(), StatusRequest(upload_id=answer.upload_id)),
    ):
        with pytest.raises(Problem, match="upload_gone"):
            await call
    assert (await upload(served, store, "y", data)).bytes == 0
    assert body(store, "y") == data
    await nothing_left(store)


async def test_an_upload_that_is_copied_can_be_aborted(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom((PER_CALL + 5) * PART)
    await upload(served, store, "x", data)
    before = set(store.objects)
    answer = await initiate(served, caller(), request("y", data))
    assert isinstance(answer, Copying)
    await abort(served, caller(), AbortRequest(upload_id=answer.upload_id))
    assert set(store.objects) == before
    assert await store.list_uploads("") == []


async def test_a_session_of_an_older_version_copies_nothing(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom(5 * PART)
    await begin(served, "x", data)
    (key,) = [key for key in session_keys(store) if key.endswith(".json")]
    older = store.objects[key].body.replace(b'"copying":false,', b"")
    assert older != store.objects[key].body
    await store.put_small(key, older)
    answer = await begin(served, "x", data)
    await put_parts(store, answer, data)
    assert (await finish(served, answer)).status == "complete"


async def test_a_copy_that_is_replaced_at_once_has_been_published(store: CopyingStore) -> None:
    data = os.urandom(5 * PART)
    await upload(bucket(store), store, "x", data)

    async def overwritten(operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        answer = await call()
        if operation.name == "complete":
            await store.put_small(f"{PREFIX}y", b"other")
        return answer

    served = bucket(wrap(store, overwritten))
    answer = await begin(served, "y", data)
    assert (answer.parts, len(answer.uploaded)) == ([], 5)
    assert (await finish(served, answer)).status == "superseded"
    assert body(store, "y") == b"other"


async def test_an_upload_that_somebody_ends_while_it_is_copied_is_tried_again(store: CopyingStore) -> None:
    data, looks = os.urandom(5 * PART), 0
    await upload(bucket(store), store, "x", data)

    async def ended(call: str) -> None:
        nonlocal looks
        looks += call == "list_parts"
        if looks == 2:
            for found in await store.list_uploads(""):
                await store.abort(found.upload)

    served = bucket(wrap(store, _before(ended)))
    with pytest.raises(Problem, match="upload_busy"):
        await initiate(served, caller(), request("y", data))
    assert await upload(served, store, "y", data) == NOTHING
    await nothing_left(store)


async def test_callers_at_once_end_with_one_file(store: CopyingStore) -> None:
    served, data = bucket(store), os.urandom((PER_CALL + 5) * PART)
    await upload(served, store, "x", data)
    await asyncio.gather(*(upload(served, store, "y", data) for _ in range(8)))
    assert body(store, "y") == data
    await nothing_left(store)


# --- around the store


def _noting(calls: list[str]) -> Any:
    async def note(operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        calls.append(operation.name)
        return await call()

    return note


def _before(hook: Callable[[str], Awaitable[None]]) -> Any:
    async def around(operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        await hook(operation.name)
        return await call()

    return around
