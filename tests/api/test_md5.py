"""A store that checks MD5s only (tier `md5`): both digests are declared, signed, kept and compared."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from typing import Any

import pytest

from putgate_api.records.keys import RecordKeys
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.complete import complete
from putgate_api.uploads.initiate import initiate
from putgate_api.uploads.sign import sign
from putgate_api.uploads.status import status
from putgate_protocol.messages.complete import CompleteRequest
from putgate_protocol.messages.initiate import Exists, Upload
from putgate_protocol.messages.sign import SignRequest
from putgate_protocol.messages.status import StatusRequest
from putgate_protocol.problems import Problem
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
    request,
    send,
)

DATA = b"0123456789abcdef" * 2 + b"end"
OTHER = DATA[::-1]


@pytest.fixture
def store() -> MemoryStore:
    return memory_store(Clock())


@pytest.fixture
def served(store: MemoryStore) -> Bucket:
    return weak(store)


def weak(store: MemoryStore, **more: Any) -> Bucket:
    return bucket(store, tier="md5", commit_by_put=False, **more)


def md5(data: bytes) -> list[str]:
    parts = (data[at : at + PART] for at in range(0, len(data), PART))
    return [base64.b64encode(hashlib.md5(part, usedforsecurity=False).digest()).decode() for part in parts]


def smuggle(store: MemoryStore, number: int, content: bytes) -> None:
    """What a store that lets an unsigned copy pass would hold afterwards."""
    (upload,) = store._uploads.values()
    upload.parts[number] = content


async def test_clients_are_told_and_refused_without(served: Bucket) -> None:
    assert served.part_limit().requires_md5
    assert served.part_limit().put_max_size == 0
    with pytest.raises(Problem) as refused:
        await begin(served, "a", DATA)
    assert (refused.value.code, refused.value.status) == ("md5_required", 400)
    with pytest.raises(Problem) as refused:
        await begin(served, "a", DATA, md5=["=" * 24] * 3)
    assert refused.value.code == "request_invalid"
    assert isinstance(await initiate(served, caller(), request("empty", b"")), Exists)


async def test_a_store_that_checks_sha256_needs_no_md5_and_signs_none(store: MemoryStore) -> None:
    strict = bucket(store, commit_by_put=False)
    assert not strict.part_limit().requires_md5
    answer = await begin(strict, "a", DATA, md5=md5(DATA))
    assert all("content-md5" not in part.headers for part in answer.parts)


async def test_both_digests_are_signed_and_kept(served: Bucket, store: MemoryStore) -> None:
    answer = await begin(served, "a", DATA, md5=md5(DATA))
    again = await sign(served, caller(), SignRequest(upload_id=answer.upload_id, part_numbers=[3, 1]))
    for part in (*answer.parts, *again.parts):
        assert part.headers["content-md5"] == md5(DATA)[part.part_number - 1]
        assert "x-amz-checksum-sha256" in part.headers
    (record,) = [key for key in store.objects if key.endswith(".parts")]
    assert record.startswith(RecordKeys(PREFIX).sessions)
    assert len(store.objects[record].body) == 3 * 48
    assert await put_parts(store, answer, DATA) == [200, 200, 200]
    assert (await finish(served, answer)).status == "complete"
    assert body(store, "a") == DATA


async def test_a_part_that_is_not_what_was_declared_is_never_published(served: Bucket, store: MemoryStore) -> None:
    answer = await begin(served, "a", DATA, md5=md5(DATA))
    await put_parts(store, answer, DATA)
    smuggle(store, 2, OTHER[PART : 2 * PART])
    with pytest.raises(Problem) as refused:
        await finish(served, answer)
    assert (refused.value.code, refused.value.parts) == ("parts_missing", (2,))
    assert body(store, "a") is None
    told = await status(served, caller(), StatusRequest(upload_id=answer.upload_id))
    assert [part.part_number for part in told.uploaded] == [1, 3]
    resumed = await begin(served, "a", DATA, md5=md5(DATA))
    assert [part.part_number for part in resumed.parts] == [2]
    assert await send(store, resumed.parts[0], DATA) == 200
    assert (await finish(served, resumed)).status == "complete"
    assert body(store, "a") == DATA


async def test_for_one_store_upload_one_list_is_signed(served: Bucket, store: MemoryStore) -> None:
    first = await begin(served, "a", DATA, md5=md5(DATA))
    await put_parts(store, first, DATA)
    (before,) = store._uploads
    other = await begin(served, "a", DATA, md5=md5(OTHER))
    (after,) = store._uploads
    assert before != after
    assert other.uploaded == []
    signed = await sign(served, caller(), SignRequest(upload_id=first.upload_id, part_numbers=[1]))
    assert signed.parts[0].headers["content-md5"] == md5(OTHER)[0]


async def test_md5s_that_were_tampered_with_in_the_bucket_are_never_signed(served: Bucket, store: MemoryStore) -> None:
    answer = await begin(served, "a", DATA, md5=md5(DATA))
    (record,) = [key for key in store.objects if key.endswith(".parts")]
    kept = store.objects[record].body
    await store.put_small(record, kept[:-16] + bytes(16))
    with pytest.raises(Problem) as gone:
        await sign(served, caller(), SignRequest(upload_id=answer.upload_id, part_numbers=[3]))
    assert gone.value.code == "upload_gone"


async def test_an_upload_begun_without_md5s_is_not_finished_so(store: MemoryStore) -> None:
    answer = await begin(bucket(store, commit_by_put=False), "a", DATA)
    await put_parts(store, answer, DATA)
    served = weak(store)
    for late in (
        lambda: sign(served, caller(), SignRequest(upload_id=answer.upload_id, part_numbers=[1])),
        lambda: status(served, caller(), StatusRequest(upload_id=answer.upload_id)),
        lambda: complete(served, caller(), CompleteRequest(upload_id=answer.upload_id)),
    ):
        with pytest.raises(Problem) as gone:
            await late()
        assert gone.value.code == "upload_gone"
    fresh = await begin(served, "a", DATA, md5=md5(DATA))
    assert await put_parts(store, fresh, DATA) == [200, 200, 200]
    assert (await finish(served, fresh)).status == "complete"


@pytest.mark.parametrize("tier", ["md5", "none"])
async def test_only_its_owner_is_given_content_for_its_hash(store: MemoryStore, tier: str) -> None:
    served = bucket(store, scope="Bucket", tier=tier, commit_by_put=False)
    answer = await begin(served, "a", DATA, md5=md5(DATA))
    await put_parts(store, answer, DATA)
    await finish(served, answer)
    mine = await initiate(served, caller(), request("a", DATA, md5=md5(DATA)))
    assert isinstance(mine, Exists)
    for name in ("a", "b"):
        theirs = await initiate(served, caller("somebody"), request(name, DATA, md5=md5(DATA)))
        assert isinstance(theirs, Upload)
        assert theirs.uploaded == []
    copied = await initiate(served, caller(), request("c", DATA, md5=md5(DATA)))
    assert isinstance(copied, Exists if tier == "md5" else Upload)


async def test_content_of_other_md5s_is_not_copied(served: Bucket, store: MemoryStore) -> None:
    """Its owner may have lied about its hash: what is declared now is other content."""
    answer = await begin(served, "a", DATA, md5=md5(DATA))
    await put_parts(store, answer, DATA)
    await finish(served, answer)
    sent = await initiate(served, caller(), request("b", DATA, md5=[*md5(DATA)[:2], *md5(OTHER)[:1]]))
    assert isinstance(sent, Upload)
    assert sent.uploaded == []


async def test_part_of_changed_content_is_copied_by_both_digests(served: Bucket, store: MemoryStore) -> None:
    answer = await begin(served, "a", DATA, md5=md5(DATA))
    await put_parts(store, answer, DATA)
    await finish(served, answer)
    newer = DATA[: 2 * PART] + b"END"
    changed = await initiate(served, caller(), request("a", newer, md5=md5(newer)))
    assert isinstance(changed, Upload)
    assert [part.part_number for part in changed.uploaded] == [1, 2]
    assert await put_parts(store, changed, newer) == [200]
    assert (await finish(served, changed)).status == "complete"
    assert body(store, "a") == newer


@pytest.mark.parametrize("scope", ["Owner", "Bucket"])
async def test_a_hash_that_nobody_checked_is_none_on_a_store_that_checks(store: MemoryStore, scope: str) -> None:
    """The bucket has come to a better store, or the store was mended. An owner may have stored other bytes than its
    hash names, with rights that it has lost since.
    """
    before = weak(store, scope=scope)
    # The in-memory store would refuse the other bytes; what counts is that nobody asked the real one to.
    unchecked = await begin(before, "a", DATA, md5=md5(DATA))
    await put_parts(store, unchecked, DATA)
    await finish(before, unchecked)
    after = bucket(store, scope=scope)
    for who in (caller("somebody"), caller()):
        for name in ("a", "b"):
            answer = await initiate(after, who, request(name, DATA))
            assert isinstance(answer, Upload), (who.subject, name)
            assert answer.uploaded == []
    # Once it is sent again it is what it says, and is known.
    fresh = await begin(after, "a", DATA)
    await put_parts(store, fresh, DATA)
    await finish(after, fresh)
    assert body(store, "a") == DATA
    assert isinstance(await initiate(after, caller("somebody"), request("a", DATA)), Exists)


async def test_what_a_better_store_checked_is_known_to_a_worse(store: MemoryStore) -> None:
    served = bucket(store)
    answer = await begin(served, "a", DATA)
    await put_parts(store, answer, DATA)
    await finish(served, answer)
    assert isinstance(await initiate(weak(store), caller(), request("a", DATA, md5=md5(DATA))), Exists)


def test_a_tier_without_any_digest_finds_nothing_again(store: MemoryStore) -> None:
    served = bucket(store, tier="none")
    assert served.instant_min_size > served.limits.max_object_size
    assert not served.part_limit().requires_md5
    assert replace(served, abilities=replace(served.abilities, tier="sha256")).instant_min_size == 1
