"""What happens to a served bucket over hours and days, in virtual time: new probes, new credentials."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from putgate_api.prepare.probing import DAY, Grants, adoptable, effective, until_due
from putgate_api.prepare.steps import probed_with
from putgate_api.records.probe import read_probe, write_probe
from putgate_protocol.settings.api import Integrity
from putgate_storage.errors import Permanent, Transient
from putgate_storage.probe.report import Check, ProbeReport
from tests.api.keeper_stage import BEGIN, HOUR, KEYS, Answer, Keyed, Stage, clock, plain, play, rest, seen, settings
from tests.operator.virtual_time import run


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
    bad = tuple(replace(row, verdict="failed") if row.check == Check.PART_LENGTH else row for row in report.rows)
    assert not adoptable(replace(report, rows=bad), BEGIN)


def test_a_worse_result_closes_the_bucket_only_when_it_is_seen_twice() -> None:
    stage = Stage(store=plain())

    async def scenes() -> None:
        await rest(0)
        stage.answers = [lambda: seen(part_length="failed")] * 3
        await rest(24 * HOUR)
        assert stage.probes[-1] == 24 * HOUR
        assert stage.closed is None, "once is no proof"
        await rest(24 * HOUR + 600)
        assert stage.probes[-1] == 24 * HOUR + 600
        assert stage.closed is not None
        assert "part_length" in stage.closed
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


def test_a_store_that_still_checks_md5s_is_served_as_one() -> None:
    stage = Stage(store=plain())

    async def scenes() -> None:
        await rest(0)
        stage.answers = [lambda: seen(part_sha256="failed")] * 2
        await rest(24 * HOUR)
        assert stage.served[-1][1].report.tier == "sha256", "once is no proof"
        await rest(24 * HOUR + 600)
        assert stage.served[-1][1].report.tier == "md5"
        assert stage.closed is None
        assert stage.status.state == "Ready"
        assert stage.condition("IntegrityVerified").message.startswith("tier md5")

    play(stage, scenes)


def test_an_unverified_store_is_served_and_never_adopted() -> None:
    chosen = settings().model_copy(update={"integrity": Integrity(mode="Unverified")})
    stage = Stage(store=plain(), settings=chosen, answers=[lambda: seen(part_length="failed")])

    async def scenes() -> None:
        await rest(0)
        assert stage.closed is None
        assert stage.served[-1][1].findings[0].startswith("the store enforces no checksum")
        found = stage.condition("IntegrityVerified")
        assert (found.status, found.reason) == ("Unknown", "Unverified")
        assert stage.status.state == "Ready"
        standing = await stage.recorded()
        assert standing is not None
        assert not adoptable(standing, clock())

    play(stage, scenes)


def test_a_moments_doubt_changes_nothing() -> None:
    stage = Stage(store=plain())

    async def scenes() -> None:
        await rest(0)
        stage.answers = [lambda: seen(part_length="failed")]
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
        stage.answers = [lambda: seen(part_length="failed")] * 3
        await rest(24 * HOUR + 60)
        store.identity = "second"
        await rest(24 * HOUR + 65)
        assert len(stage.probes) == 3
        assert stage.closed is None
        await rest(24 * HOUR + 65 + 600)
        assert stage.closed is not None

    play(stage, scenes)


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


def test_a_row_that_had_no_answer_at_the_start_is_no_limit() -> None:
    async def scenes() -> None:
        first = seen(put_sha256="inconclusive", part_acl="failed")
        found = effective(seen(), held=first, first=first)
        verdicts = {row.check: row.verdict for row in found.rows}
        assert verdicts[Check.PUT_SHA256] == "passed"
        assert verdicts[Check.PART_ACL] == "failed"

    run(scenes())
