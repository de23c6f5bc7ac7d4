"""The claim: one claimant per bucket and prefix, whatever happens at the same moment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from putgate_api.records.bucket import BucketDisagrees
from putgate_api.records.claim import BucketInUse, Claim, ensure_claim, read_claim
from putgate_api.records.keys import RecordKeys
from putgate_protocol.settings.api import Claimant
from putgate_storage.errors import Transient, Unsupported
from putgate_storage.memory import MemoryStore
from putgate_storage.store import Condition, ObjectHeaders, Store
from tests.api.in_cluster import condition, in_cluster, record, report_of, until_ready, until_reason, until_report
from tests.servers.api import ApiProcess
from tests.servers.seaweedfs import SeaweedFS

KEYS = RecordKeys("files/")
MEDIA = Claimant(namespace_uid="ns-1", namespace="apps", name="media")
OTHER = Claimant(namespace_uid="ns-2", namespace="tests", name="media")


def ids() -> Callable[[int], str]:
    numbers = iter(range(1, 100))
    return lambda size: f"{next(numbers):0{size * 2}x}"


async def ensure(
    store: Store, claimant: Claimant, *, created: bool = False, take_over: str | None = None, first: int = 0
) -> Claim:
    make = ids()
    for _ in range(first):
        make(16)
    return await ensure_claim(store, KEYS, claimant, created=created, take_over=take_over, random_hex=make)


async def test_who_comes_first_has_it_and_goes_on() -> None:
    store = MemoryStore()
    first = await ensure(store, MEDIA, created=True)
    assert (first.id, first.created, first.namespace, first.name) == (f"{1:032x}", True, "apps", "media")
    again = await ensure(store, MEDIA, first=5)
    assert again == first, "a re-created object goes on, and the bucket is still of its making"


@pytest.mark.parametrize(
    "other",
    [OTHER, Claimant(namespace_uid="ns-1", namespace="apps", name="other")],
    ids=["namespace of the same name, made anew", "another name"],
)
async def test_anybody_else_is_told_whose_it_is_and_what_to_do(other: Claimant) -> None:
    store = MemoryStore()
    claim = await ensure(store, MEDIA)
    with pytest.raises(BucketInUse) as raised:
        await ensure(store, other, first=5)
    assert f"takeOver: {claim.id}" in str(raised.value)
    assert "apps/media" in str(raised.value)
    assert await ensure(store, MEDIA) == claim


async def test_a_take_over_replaces_exactly_the_claim_that_it_names() -> None:
    store = MemoryStore()
    claim = await ensure(store, MEDIA, created=True)
    with pytest.raises(BucketInUse):
        await ensure(store, OTHER, take_over="0" * 32)
    taken = await ensure(store, OTHER, take_over=claim.id, first=5)
    assert taken.id != claim.id
    assert not taken.created, "whoever takes over did not create the bucket"
    assert await ensure(store, OTHER, take_over=claim.id) == taken, "the setting may stay"
    with pytest.raises(BucketInUse, match=taken.id):
        await ensure(store, MEDIA, take_over=claim.id)


class Meeting(MemoryStore):
    """Lets two look before either writes."""

    def __init__(self) -> None:
        super().__init__()
        self._both = asyncio.Barrier(2)

    async def put_small(
        self, key: str, body: bytes, *, headers: ObjectHeaders | None = None, condition: Condition | None = None
    ) -> str:
        await self._both.wait()
        return await super().put_small(key, body, headers=headers, condition=condition)


async def test_of_two_at_the_same_moment_exactly_one_gets_it() -> None:
    store = Meeting()
    outcomes = await asyncio.gather(ensure(store, MEDIA), ensure(store, OTHER, first=5), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {BucketInUse, Claim}


async def test_of_two_that_take_over_exactly_one_gets_it() -> None:
    store = Meeting()
    plain = MemoryStore()
    claim = await ensure(plain, MEDIA)
    store.objects.update(plain.objects)
    third = Claimant(namespace_uid="ns-3", namespace="more", name="media")
    outcomes = await asyncio.gather(
        ensure(store, OTHER, take_over=claim.id, first=5),
        ensure(store, third, take_over=claim.id, first=9),
        return_exceptions=True,
    )
    assert {type(outcome) for outcome in outcomes} == {BucketInUse, Claim}


class LosesAnswers(MemoryStore):
    async def put_small(
        self, key: str, body: bytes, *, headers: ObjectHeaders | None = None, condition: Condition | None = None
    ) -> str:
        await super().put_small(key, body, headers=headers, condition=condition)
        raise Transient("the answer was lost", code="Lost")


async def test_a_lost_answer_is_looked_up() -> None:
    assert (await ensure(LosesAnswers(), MEDIA, created=True)).created


class NoConditions(MemoryStore):
    async def put_small(
        self, key: str, body: bytes, *, headers: ObjectHeaders | None = None, condition: Condition | None = None
    ) -> str:
        if condition is not None:
            raise Unsupported("no conditions here", code="NotImplemented")
        return await super().put_small(key, body, headers=headers)


async def test_without_conditional_writes_it_is_written_plainly_and_read_back() -> None:
    store = NoConditions()
    claim = await ensure(store, MEDIA)
    kept = await read_claim(store, KEYS)
    assert kept is not None
    assert kept.claim == claim
    with pytest.raises(BucketInUse):
        await ensure(store, OTHER)


READABLE = {"id": "ab" * 16, "namespace_uid": "u", "namespace": "n", "name": "m", "created": False, "version": 1}


@pytest.mark.parametrize(
    "wrong", [{"id": 7}, {"created": "no"}, {"created": 1}, {"version": 2}, {"name": ""}, {"namespace": "n" * 200}]
)
async def test_a_record_that_nobody_can_read_is_nobodys_to_replace(wrong: dict[str, Any]) -> None:
    store = MemoryStore()
    await store.put_small(KEYS.claim, json.dumps(READABLE).encode())
    assert await read_claim(store, KEYS) is not None
    await store.put_small(KEYS.claim, json.dumps({**READABLE, **wrong}).encode())
    with pytest.raises(BucketDisagrees, match=r"claim\.json"):
        await ensure(store, MEDIA)


# --- processes ---


@pytest.mark.slow
def test_two_processes_one_claim(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> None:
    apis = [in_cluster(ApiProcess(tmp_path / name, seaweedfs, prefix=prefix), name) for name in ("one", "two")]
    try:
        for api in apis:
            api.start(wait=False)
        reports = [
            until_report(api, lambda it: it.state == "Ready" or condition(it, "BucketReady").reason == "BucketInUse")
            for api in apis
        ]
        assert sorted(report.state for report in reports) == ["Preparing", "Ready"]
        winner = next(api for api, report in zip(apis, reports, strict=True) if report.state == "Ready")
        loser = next(api for api in apis if api is not winner)
        with closing(seaweedfs.client()) as client:
            standing = record(winner, "claim.json", client)
        held = report_of(winner).bucket
        assert held is not None
        assert (standing["id"], standing["created"]) == (held.claim_id, held.created) == (held.claim_id, False)
        refused = condition(report_of(loser), "BucketReady")
        assert (refused.status, refused.user_error) == ("False", True)
        assert f"takeOver: {standing['id']}" in refused.message
        assert condition(report_of(loser), "CredentialsValid").status == "True"

        # What the message says to do.
        assert winner.stop() == 0
        assert loser.stop() == 0
        loser.settings["storage"]["take_over"] = standing["id"]
        loser.start()
        with closing(seaweedfs.client()) as client:
            taken = record(loser, "claim.json", client)
        assert taken["id"] != standing["id"]
        winner.start(wait=False)
        assert taken["id"] in until_reason(winner, "BucketReady", "BucketInUse").message
        # Made anew under the same name, it goes on; with another settings file and uid.
        loser.restart()
        assert until_ready(loser).bucket == report_of(loser).bucket
        with closing(seaweedfs.client()) as client:
            assert record(loser, "claim.json", client) == taken
    finally:
        for api in apis:
            api.kill()


@pytest.mark.slow
def test_outside_a_cluster_a_claimed_bucket_ends_the_program(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> None:
    api = in_cluster(ApiProcess(tmp_path / "one", seaweedfs, prefix=prefix), "one").start()
    assert api.stop() == 0
    other = in_cluster(ApiProcess(tmp_path / "two", seaweedfs, prefix=prefix), "two")
    del other.settings["identity"]
    other.start(wait=False)
    assert other.process is not None
    assert other.process.wait(60) == 3
    assert "takeOver" in other.log.read_text()
