"""What happens before a bucket is served, and to its clean-up rule, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from putgate_api.prepare.keeper import AGAIN, Keeper
from putgate_api.prepare.trouble import Unfit
from putgate_api.records.bucket import BucketDisagrees
from putgate_api.records.claim import BucketInUse, ensure_claim, read_claim
from putgate_protocol.settings.api import Claimant
from putgate_storage.errors import Permanent, Refused, StoreError, Transient
from putgate_storage.memory import MemoryStore
from putgate_storage.probe.report import ProbeReport
from putgate_storage.store import Condition, ObjectHeaders, Small, Store
from tests.api.keeper_stage import HOUR, KEYS, Keyed, Stage, clock, plain, play, rest, seen, settings
from tests.operator.virtual_time import run


def test_what_only_people_can_mend_is_looked_at_each_minute_and_with_new_credentials() -> None:
    store = Keyed()
    stage = Stage(store=store, answers=[lambda: seen(part_length="failed")] * 3)

    async def scenes() -> None:
        await rest(90)
        assert stage.probes == [0.0, pytest.approx(60.0)]
        assert stage.condition("IntegrityVerified").reason == "IntegrityNotEnforced"
        store.identity = "second"
        await rest(95)
        assert len(stage.probes) == 3
        store.identity = "third"
        await rest(100)
        assert stage.status.state == "Ready"

    play(stage, scenes)


def test_an_outage_is_tried_again_with_growing_pauses() -> None:
    stage = Stage(store=Keyed(), answers=[Transient("down", code="503")] * 9)

    async def scenes() -> None:
        await rest(0)
        found = stage.condition("BucketReady")
        assert (found.status, found.reason, found.user_error) == ("False", "StoreUnreachable", False)
        await rest(150)
        pauses = [after - before for before, after in zip(stage.probes, stage.probes[1:], strict=False)]
        assert pauses[:8] == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30])
        assert stage.status.state == "Ready"

    play(stage, scenes)


def test_missing_files_are_looked_for_each_second() -> None:
    missing: Sequence[StoreError] = [Permanent("credentials file", code="SecretMissing")] * 90
    stage = Stage(store=Keyed(), openings=list(missing))

    async def scenes() -> None:
        await rest(89)
        assert stage.condition("CredentialsValid").reason == "SecretMissing"
        await rest(91)
        assert stage.status.state == "Ready"

    play(stage, scenes)


class FailsOnce(Keyed):
    """The bucket is made, and the first write into it fails."""

    failed = False

    async def put_small(
        self, key: str, body: bytes, *, headers: ObjectHeaders | None = None, condition: Condition | None = None
    ) -> str:
        if not self.failed:
            self.failed = True
            raise Permanent("PutObject: denied for a moment", code="AccessDenied")
        return await super().put_small(key, body, headers=headers, condition=condition)


def test_a_bucket_stays_of_our_making_when_the_next_step_fails() -> None:
    stage = Stage(store=FailsOnce(exists=False), settings=settings(management="Create"))

    async def scenes() -> None:
        await rest(5)
        assert stage.status.prepared is not None
        assert stage.status.prepared.claim is not None
        assert stage.status.prepared.claim.created
        assert stage.condition("BucketReady").reason == "Created"

    play(stage, scenes)


class Reappearing(Keyed):
    """Somebody else makes the bucket between our look and our creation."""

    async def create_bucket(self) -> bool:
        await super().create_bucket()
        return False


def test_a_bucket_that_somebody_made_meanwhile_is_adopted() -> None:
    stage = Stage(store=Reappearing(exists=False), settings=settings(management="Create"))

    async def scenes() -> None:
        await rest(1)
        assert stage.condition("BucketReady").reason == "Adopted"

    play(stage, scenes)


def test_without_conditional_writes_the_last_claim_is_seen_before_serving() -> None:
    """Two write the claim at the same moment on a store that keeps neither from it; the first must not serve."""
    stage = Stage(store=Keyed())

    async def intrude() -> None:
        found = await stage.store.get_small(KEYS.claim, 10_000)
        assert found is not None
        await stage.store.put_small(KEYS.claim, found.body.replace(b'"media"', b'"other"'))

    async def probing(store: Store) -> ProbeReport:
        await intrude()
        return seen(put_if_absent="failed", put_if_match="failed")

    async def scenes() -> None:
        means = replace(stage.means(), probe=probing)
        keeper = Keeper(
            means=means, opened=stage._opened, serve=lambda *_: None, status=stage.status, chance=lambda: 0.0
        )
        task = asyncio.create_task(keeper.run())
        await rest(1)
        assert stage.condition("BucketReady").reason == "BucketInUse"
        assert stage.status.state == "Preparing"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(scenes())


@pytest.mark.parametrize("failure", ["unfit", "claimed", "disagrees", "opening"])
def test_outside_a_cluster_it_ends(failure: str) -> None:
    stage = Stage(store=Keyed(), settings=settings(in_cluster=False))
    kinds: dict[str, type[Exception]] = {
        "unfit": Unfit,
        "claimed": BucketInUse,
        "disagrees": BucketDisagrees,
        "opening": Permanent,
    }

    async def scenes() -> None:
        match failure:
            case "unfit":
                stage.answers = [lambda: seen(part_length="failed")]
            case "claimed":
                claim = b'{"id":"c","namespace_uid":"x","namespace":"x","name":"x","created":true}'
                await stage.store.put_small(KEYS.claim, claim)
            case "disagrees":
                await stage.store.put_small(KEYS.bucket, b'{"bucket_id": "b", "part_size": 1, "max_parts": 1}')
            case "opening":
                stage.openings = [Permanent("credentials file", code="SecretMissing")]
        with pytest.raises(kinds[failure]):
            await stage.keeper().run()

    run(scenes())


class NoRules(MemoryStore):
    """The rule cannot be set until `mended`."""

    mended = False
    tries = 0

    async def ensure_abort_rule(self, rule_id: str, prefix: str, days: int) -> None:
        self.tries += 1
        if not self.mended:
            raise Refused("the rule was not kept", code="LifecycleNotKept")
        await super().ensure_abort_rule(rule_id, prefix, days)


def test_the_clean_up_rule_is_tried_until_it_stands_and_gates_nothing() -> None:
    store = NoRules(clock=clock)
    stage = Stage(store=store)

    async def scenes() -> None:
        await rest(1)
        assert stage.status.state == "Ready"
        assert stage.condition("BucketConfigured").reason == "LifecycleUnsupported"
        store.mended = True
        await rest(AGAIN.total_seconds() + 1)
        assert stage.condition("BucketConfigured").status == "True"
        await rest(5 * HOUR)
        assert store.tries == 2

    play(stage, scenes)


def test_observing_sets_no_rule_and_makes_no_bucket() -> None:
    store = NoRules(clock=clock, exists=False)
    stage = Stage(store=store, settings=settings(management="Observe"))

    async def scenes() -> None:
        await rest(2)
        assert stage.condition("BucketReady").reason == "BucketNotFound"
        await store.create_bucket()
        await rest(40)
        assert stage.status.state == "Ready"
        assert store.tries == 0

    play(stage, scenes)


def test_a_bucket_that_was_taken_over_is_served_no_longer() -> None:
    stage = Stage(store=plain())
    others = Claimant(namespace_uid="other", namespace="team", name="files")

    async def claimed_by(claimant: Claimant) -> None:
        standing = await read_claim(stage.store, KEYS)
        assert standing is not None
        await ensure_claim(
            stage.store, KEYS, claimant, created=False, take_over=standing.claim.id, random_hex=lambda size: "cd" * size
        )

    async def scenes() -> None:
        await rest(10)
        assert stage.status.state == "Ready"
        await claimed_by(others)
        await rest(75)
        assert stage.withdrawn == [pytest.approx(60.0)]
        found = stage.condition("BucketReady")
        assert (found.status, found.reason, found.user_error) == ("False", "BucketInUse", True)
        await stage.store.delete(KEYS.claim)
        await rest(150)
        assert stage.status.state == "Ready"
        assert len(stage.served) == 2

    play(stage, scenes)


class Away(MemoryStore):
    """Cannot be read while it is `away`."""

    away = False
    asked = 0

    async def get_small(self, key: str, max_bytes: int) -> Small | None:
        self.asked += 1
        if self.away:
            raise Transient("down", code="503")
        return await super().get_small(key, max_bytes)


def test_an_outage_is_no_sign_that_a_bucket_was_taken_over() -> None:
    store = Away(clock=clock)
    stage = Stage(store=store)

    async def scenes() -> None:
        await rest(10)
        store.away, before = True, store.asked
        await rest(HOUR)
        assert store.asked > before + 50
        assert stage.withdrawn == []

    play(stage, scenes)
