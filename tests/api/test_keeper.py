"""What happens to a served bucket over hours and days, in virtual time, on a store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from putgate_api.prepare.keeper import AGAIN, Keeper
from putgate_api.prepare.probing import DAY, Grants, adoptable, effective, until_due
from putgate_api.prepare.status import Status
from putgate_api.prepare.steps import Means, Prepared, probed_with
from putgate_api.prepare.trouble import Unfit
from putgate_api.records.bucket import BucketDisagrees
from putgate_api.records.claim import BucketInUse
from putgate_api.records.keys import RecordKeys
from putgate_api.records.probe import read_probe, write_probe
from putgate_protocol.report import ReportedCondition
from putgate_protocol.settings.api import ApiSettings
from putgate_storage.errors import Permanent, Refused, StoreError, Transient
from putgate_storage.memory import MemoryStore
from putgate_storage.probe.report import Check, ProbeReport, Verdict
from putgate_storage.store import Condition, CredentialMark, ObjectHeaders, Store
from tests.operator.virtual_time import now as loop_time
from tests.operator.virtual_time import run

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = RecordKeys("files/")
HOUR = 3600.0


def clock() -> datetime:
    return BEGIN + timedelta(seconds=loop_time())


def settings(**storage: Any) -> ApiSettings:
    in_cluster = storage.pop("in_cluster", True)
    return ApiSettings.model_validate(
        {
            "storage": {
                "s3": {"bucket": "bucket", "endpoint": "http://store.invalid"},
                "prefix": "files/",
                "claimant": {"namespace_uid": "ns", "namespace": "apps", "name": "media"},
                **storage,
            },
            "upload_keys": {"file": Path("/unused")},
            "identity": {"uploadbucket_uid": "uid", "settings_hash": "0123456789"} if in_cluster else None,
        }
    )


def seen(**verdicts: Verdict) -> ProbeReport:
    """A report of now in which the named rows did not pass."""
    report = ProbeReport.assumed_strict(clock())
    rows = tuple(replace(row, verdict=verdicts.get(row.check.value, "passed")) for row in report.rows)
    return replace(report, rows=rows)


class Keyed(MemoryStore):
    """A store whose credentials a test replaces; `accepts`: which ones."""

    def __init__(self, *, exists: bool = True, identity: str = "first") -> None:
        super().__init__(clock=clock, exists=exists)
        self.identity = identity
        self.accepts: str | None = None

    async def credential_mark(self) -> CredentialMark:
        return CredentialMark(identity=self.identity, value=f"value of {self.identity}")

    async def bucket_exists(self) -> bool:
        if self.accepts not in (None, self.identity):
            raise Permanent("HeadBucket", code="InvalidAccessKeyId")
        return await super().bucket_exists()


def plain() -> MemoryStore:
    """A store without credentials, which nobody looks at each second of a day."""
    return MemoryStore(clock=clock)


Answer = Callable[[], ProbeReport] | StoreError | Unfit


@dataclass(slots=True, kw_only=True)
class Stage:
    """A keeper, its store, and what happened when. `answers`: what the probes see, in turn; then all is well."""

    store: MemoryStore
    answers: list[Answer] = field(default_factory=list)
    settings: ApiSettings = field(default_factory=settings)
    status: Status = field(default_factory=Status)
    probes: list[float] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)
    openings: list[StoreError] = field(default_factory=list)
    served: list[tuple[float, Prepared]] = field(default_factory=list)
    chance: float = 0.0

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Store]:
        self.opened.append(loop_time())
        if self.openings:
            raise self.openings.pop(0)
        yield self.store

    async def _probe(self, _: Store) -> ProbeReport:
        self.probes.append(loop_time())
        answer = self.answers.pop(0) if self.answers else seen
        if isinstance(answer, Exception):
            raise answer
        return answer()

    def means(self) -> Means:
        return Means(settings=self.settings, probe=self._probe, random_hex=lambda size: "ab" * size, program="1.0")

    def keeper(self) -> Keeper:
        return Keeper(
            means=self.means(),
            opened=self._opened,
            serve=lambda _, prepared: self.served.append((loop_time(), prepared)),
            status=self.status,
            chance=lambda: self.chance,
        )

    def condition(self, kind: str) -> ReportedCondition:
        (found,) = [each for each in self.status.conditions if each.type == kind]
        return found

    @property
    def closed(self) -> str | None:
        return self.served[-1][1].closed

    async def recorded(self) -> ProbeReport | None:
        return await read_probe(self.store, KEYS, await probed_with(self.store, self.means()))


def play(stage: Stage, scenes: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the keeper beside `scenes`."""

    async def both() -> None:
        keeper = asyncio.create_task(stage.keeper().run())
        await scenes()
        assert not keeper.done(), keeper
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)

    run(both())


def rest(seconds: float) -> Coroutine[Any, Any, None]:
    """Until this time, and a moment."""
    return asyncio.sleep(seconds - loop_time() + 0.01)


# --- probing again ---


def test_the_store_is_probed_again_each_day() -> None:
    stage = Stage(store=plain())

    async def scenes() -> None:
        await rest(0)
        assert stage.status.state == "Ready"
        await rest(49 * HOUR)
        assert stage.probes == [0.0, 24 * HOUR, 48 * HOUR]

    play(stage, scenes)


def test_jitter_brings_a_probe_forward() -> None:
    stage = Stage(store=plain(), chance=0.5)

    async def scenes() -> None:
        await rest(24 * HOUR)
        assert stage.probes == [0.0, pytest.approx(22.8 * HOUR)]

    play(stage, scenes)


def test_of_several_replicas_one_probes_and_the_others_adopt() -> None:
    store = plain()
    early, late = Stage(store=store, chance=0.9), Stage(store=store)

    async def scenes() -> None:
        await rest(1)
        other = asyncio.create_task(late.keeper().run())
        await rest(30 * HOUR)
        assert early.probes == [0.0, pytest.approx((24 - 2.16) * HOUR)]
        assert late.probes == []
        assert late.status.prepared is not None
        assert late.status.prepared.report.probed_at == BEGIN + timedelta(seconds=early.probes[1])
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)

    play(early, scenes)


def test_what_another_way_or_another_day_has_found_is_not_adopted() -> None:
    store = Keyed()

    async def scenes() -> None:
        await Stage(store=store).store.put_small(KEYS.probe, b"not a record")
        for changed, probes in [
            ({}, 1),
            ({}, 0),
            ({"s3": {"bucket": "bucket", "endpoint": "http://other.invalid"}}, 1),
        ]:
            stage = Stage(store=store, settings=settings(**changed))
            keeper = asyncio.create_task(stage.keeper().run())
            await asyncio.sleep(1)
            assert len(stage.probes) == probes, changed
            keeper.cancel()
        store.identity = "second"
        stage = Stage(store=store)
        keeper = asyncio.create_task(stage.keeper().run())
        await asyncio.sleep(1)
        assert len(stage.probes) == 1
        keeper.cancel()

    run(scenes())


@pytest.mark.parametrize(("age", "good"), [(timedelta(), True), (timedelta(hours=23.9), True), (DAY, False)])
def test_only_a_result_of_the_last_day_is_adopted(age: timedelta, good: bool) -> None:
    assert adoptable(ProbeReport.assumed_strict(BEGIN), BEGIN + age) is good


def test_neither_a_future_nor_a_bad_result_is_adopted() -> None:
    report = ProbeReport.assumed_strict(BEGIN)
    assert not adoptable(report, BEGIN - timedelta(hours=1))
    bad = tuple(replace(row, verdict="failed") if row.check == Check.PART_SHA256 else row for row in report.rows)
    assert not adoptable(replace(report, rows=bad), BEGIN)


def test_a_worse_result_closes_the_bucket_only_when_it_is_seen_twice() -> None:
    stage = Stage(store=plain())

    async def scenes() -> None:
        await rest(0)
        stage.answers = [lambda: seen(part_sha256="failed")] * 3
        await rest(24 * HOUR)
        assert stage.probes[-1] == 24 * HOUR
        assert stage.closed is None, "once is no proof"
        await rest(24 * HOUR + 600)
        assert stage.probes[-1] == 24 * HOUR + 600
        assert stage.closed is not None
        assert "part_sha256" in stage.closed
        assert stage.status.state == "Degraded"
        found = stage.condition("IntegrityVerified")
        assert (found.status, found.reason, found.user_error) == ("False", "IntegrityNotEnforced", True)
        # A replica that starts now must not adopt the good result of before.
        standing = await stage.recorded()
        assert standing is not None
        assert not adoptable(standing, clock())
        # It is looked at again until it is mended.
        await rest(24 * HOUR + 1200)
        assert stage.closed is not None
        await rest(24 * HOUR + 1800)
        assert stage.closed is None
        assert stage.status.state == "Ready"
        assert stage.condition("IntegrityVerified").status == "True"

    play(stage, scenes)


def test_a_moments_doubt_changes_nothing() -> None:
    stage = Stage(store=plain())

    async def scenes() -> None:
        await rest(0)
        stage.answers = [lambda: seen(part_sha256="failed")]
        await rest(24 * HOUR + 600)
        assert stage.closed is None
        assert stage.probes[-1] == 24 * HOUR + 600
        await rest(47 * HOUR)
        assert len(stage.probes) == 3, "and the next look is a day later"

    play(stage, scenes)


@pytest.mark.parametrize(
    "no_answer",
    [
        Transient("down", code="503"),
        lambda: seen(part_sha256="inconclusive"),
        lambda: seen(put_if_absent="inconclusive", part_length="failed"),
        lambda: seen(**{check.value: "inconclusive" for check in Check}),
    ],
    ids=["outage", "row", "records", "all rows"],
)
def test_a_probe_without_an_answer_changes_nothing(no_answer: Answer) -> None:
    stage = Stage(store=plain())

    async def scenes() -> None:
        await rest(0)
        stage.answers = [no_answer] * 3
        before = await stage.recorded()
        await rest(24 * HOUR + 1500)
        assert stage.probes[1:] == [24 * HOUR, 24 * HOUR + 600, 24 * HOUR + 1200]
        assert len(stage.served) == 1
        assert stage.status.state == "Ready"
        assert await stage.recorded() == before

    play(stage, scenes)


def test_an_ability_that_is_lost_is_no_longer_used() -> None:
    stage = Stage(store=plain())

    async def scenes() -> None:
        await rest(0)
        stage.answers = [lambda: seen(put_sha256="failed")] * 2
        await rest(24 * HOUR + 1)
        assert stage.served[-1][1].report.commit_by_put
        await rest(24 * HOUR + 601)
        assert not stage.served[-1][1].report.commit_by_put
        assert stage.closed is None
        await rest(50 * HOUR)
        assert stage.served[-1][1].report.commit_by_put, "it was granted at the start and is seen again"

    play(stage, scenes)


def test_a_race_that_is_won_by_luck_later_grants_nothing() -> None:
    stage = Stage(store=plain(), answers=[lambda: seen(complete_condition="failed")])

    async def scenes() -> None:
        await rest(25 * HOUR)
        assert len(stage.probes) == 2
        assert not stage.served[-1][1].report.conditional_complete

    play(stage, scenes)


def test_open_rows_of_a_later_probe_stand_as_they_stood() -> None:
    async def scenes() -> None:
        held = seen(part_acl="failed")
        found = effective(seen(put_sha256="inconclusive", part_acl="inconclusive"), held=held, first=held)
        verdicts = {row.check: row.verdict for row in found.rows}
        assert verdicts[Check.PUT_SHA256] == "passed"
        assert verdicts[Check.PART_ACL] == "failed"
        assert Grants.of(found) == Grants.of(held)

    run(scenes())


def test_a_result_is_due_at_once_when_its_day_is_over() -> None:
    report = ProbeReport.assumed_strict(BEGIN)
    assert until_due(report, BEGIN + 2 * DAY, 0.3) == timedelta()


# --- credentials ---


def test_new_credentials_are_probed_at_once() -> None:
    store = Keyed()
    stage = Stage(store=store)

    async def scenes() -> None:
        await rest(100)
        store.identity = "second"
        await rest(102)
        assert pytest.approx(stage.probes, abs=1.1) == [0.0, 100.0]
        assert await stage.recorded() is not None, "under the new credentials"
        await rest(23 * HOUR)
        assert len(stage.probes) == 2

    play(stage, scenes)


def test_new_credentials_that_do_not_work_are_reported_and_take_nothing_away() -> None:
    store = Keyed()
    stage = Stage(store=store)

    async def scenes() -> None:
        await rest(100)
        stage.answers = [Permanent("PutObject", code="SignatureDoesNotMatch")]
        store.identity = "wrong"
        await rest(102)
        found = stage.condition("CredentialsValid")
        assert (found.status, found.reason, found.user_error) == ("False", "CredentialsRejected", True)
        assert stage.status.state == "Degraded"
        assert len(stage.served) == 1
        store.identity = "right"
        await rest(105)
        assert stage.condition("CredentialsValid").status == "True"
        assert stage.status.state == "Ready"

    play(stage, scenes)


def test_other_credentials_between_two_looks_are_not_a_second_sight() -> None:
    store = Keyed()
    stage = Stage(store=store)

    async def scenes() -> None:
        await rest(0)
        stage.answers = [lambda: seen(part_sha256="failed")] * 3
        await rest(24 * HOUR + 60)
        store.identity = "second"
        await rest(24 * HOUR + 65)
        assert len(stage.probes) == 3
        assert stage.closed is None
        await rest(24 * HOUR + 65 + 600)
        assert stage.closed is not None

    play(stage, scenes)


# --- preparing ---


def test_what_only_people_can_mend_is_looked_at_each_minute_and_with_new_credentials() -> None:
    store = Keyed()
    stage = Stage(store=store, answers=[lambda: seen(part_sha256="failed")] * 3)

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
                stage.answers = [lambda: seen(part_sha256="failed")]
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


# --- the clean-up rule ---


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


# --- the record ---


def test_a_record_of_other_rows_is_no_result() -> None:
    async def scenes() -> None:
        stage = Stage(store=Keyed())
        made_with = await probed_with(stage.store, stage.means())
        await write_probe(stage.store, KEYS, made_with, seen())
        assert await stage.recorded() is not None
        assert await read_probe(stage.store, KEYS, replace(made_with, rows="older")) is None
        assert await read_probe(stage.store, KEYS, replace(made_with, program="2.0")) is None
        assert await read_probe(stage.store, KEYS, replace(made_with, endpoint="http://elsewhere.invalid")) is None
        small = await stage.store.get_small(KEYS.probe, 1 << 16)
        assert small is not None
        broken = small.body.replace(b"passed", b"perhaps")
        await stage.store.put_small(KEYS.probe, broken)
        assert await stage.recorded() is None

    run(scenes())
