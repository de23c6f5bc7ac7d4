from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from putgate_operator.rollout import Cause, everywhere, holds_slot, judge, settled
from tests.operator.core.cluster import Cluster
from tests.operator.core.made import MINIMAL, OPERATOR, condition

SLOTS = 2


def live(template: str = "old", generation: str = "1", rollout: str = "Owner", **status: Any) -> dict[str, Any]:
    annotations = {
        "putgate.io/template-hash": template,
        "putgate.io/generation": generation,
        "putgate.io/rollout": rollout,
    }
    counted = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    return {
        "metadata": {"annotations": annotations, "generation": 1},
        "spec": {"replicas": 2, "template": {"metadata": {"annotations": {"putgate.io/template-hash": template}}}},
        "status": counted | status,
    }


@pytest.mark.parametrize(
    ("found", "template", "generation", "keys_moved", "rolling", "write", "cause"),
    [
        (None, "new", 1, False, 9, True, Cause.OWNER),  # made for the first time
        (live(), "old", 1, False, 9, True, Cause.OWNER),  # nothing rolls
        (live(rollout="Operator"), "old", 1, False, 9, True, Cause.OPERATOR),
        (live(), "new", 2, False, 9, True, Cause.OWNER),  # the spec has changed
        (live(), "new", 1, True, 9, True, Cause.OWNER),  # a key rotation gets on
        (live(), "new", 1, False, 1, True, Cause.OPERATOR),  # an upgrade, and a slot
        (live(), "new", 1, False, 2, False, Cause.OPERATOR),  # an upgrade, and none
        (live(), "new", 1, False, 3, False, Cause.OPERATOR),
        ({"metadata": {}}, "new", 1, False, 2, True, Cause.OWNER),  # stripped of all that tells: repaired at once
    ],
)
def test_who_needs_a_slot(
    found: Any, template: str, generation: int, keys_moved: bool, rolling: int, write: bool, cause: Cause
) -> None:
    verdict = judge(
        found, template=template, generation=generation, keys_moved=keys_moved, rolling=rolling, slots=SLOTS
    )
    assert (verdict.write, verdict.cause) == (write, cause)


DEADLINE = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
STALLED = {"status": {"conditions": [{"type": "Stalled", "status": "True"}]}}
NOT_STALLED = {"status": {"conditions": [{"type": "Stalled", "status": "False"}]}}


@pytest.mark.parametrize(
    ("deployment", "bucket", "holds"),
    [
        (live(rollout="Operator", updatedReplicas=1), None, True),
        (live(rollout="Operator", updatedReplicas=1), NOT_STALLED, True),
        (live(rollout="Operator", observedGeneration=0), None, True),
        (live(rollout="Operator", replicas=3), None, True),
        (live(rollout="Operator", availableReplicas=1), None, True),
        (live(rollout="Operator"), None, False),  # done
        (live(updatedReplicas=1), None, False),  # the owner's
        (live(rollout="Operator", updatedReplicas=1), STALLED, False),
        (live(rollout="Operator", updatedReplicas=1, conditions=DEADLINE), None, False),
        (
            live(rollout="Operator", updatedReplicas=1, observedGeneration=0, conditions=DEADLINE),
            None,
            True,
        ),  # of another one
    ],
)
def test_who_holds_a_slot(deployment: dict[str, Any], bucket: Any, holds: bool) -> None:
    assert holds_slot(deployment, bucket) is holds


def test_everywhere_needs_pods_that_are_seen() -> None:
    assert settled(live())
    assert not everywhere(live(), ())
    assert not everywhere(None, ())


class Fleet:
    """UploadBuckets that share the operator's slots."""

    def __init__(self, size: int) -> None:
        self.clusters = [Cluster(operator=replace(OPERATOR, max_concurrent_rollouts=SLOTS)) for _ in range(size)]
        self.broken: set[int] = set()
        for cluster in self.clusters:
            cluster.settle()
            cluster.finish()

    def reconcile(self, index: int) -> None:
        cluster = self.clusters[index]
        others = [each for each in self.clusters if each is not cluster]
        cluster.rolling = sum(holds_slot(each.deployment, each.raw) for each in others)
        cluster.reconcile()
        assert self.rolling() <= SLOTS

    def rolling(self) -> int:
        return sum(holds_slot(each.deployment, each.raw) for each in self.clusters)

    def roll(self, index: int) -> None:
        if index not in self.broken:
            self.clusters[index].roll()
            return
        cluster = self.clusters[index]
        cluster.make_ready = lambda pod: False  # type: ignore[method-assign]
        cluster.roll()
        cluster.report_all(condition("CredentialsValid", "False", "SecretMissing", user_error=True))

    def upgraded(self) -> list[bool]:
        return [
            each.deployment["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":2")
            for each in self.clusters
        ]


STEPS = st.lists(st.tuples(st.sampled_from(["reconcile", "roll", "spec"]), st.integers(0, 4)), max_size=60)


@settings(max_examples=20)
@given(steps=STEPS, broken=st.sets(st.integers(0, 4), max_size=2))
def test_an_upgrade_never_rolls_more_than_it_may(steps: list[tuple[str, int]], broken: set[int]) -> None:
    fleet = Fleet(5)
    fleet.broken = broken
    for cluster in fleet.clusters:
        cluster.upgrade("putgate:2")
    for step, index in steps:
        match step:
            case "reconcile":
                fleet.reconcile(index)
            case "roll":
                fleet.roll(index)
            case _:
                fleet.clusters[index].spec({**MINIMAL, "upload": {"urlTTL": f"{60 + len(steps)}s"}})
    for _ in range(60):
        if all(fleet.upgraded()):
            break
        for index in range(5):
            fleet.reconcile(index)
            fleet.roll(index)
    assert fleet.upgraded() == [True] * 5


def test_who_waits_says_so_and_stays_ready() -> None:
    cluster = Cluster(operator=replace(OPERATOR, max_concurrent_rollouts=SLOTS))
    cluster.settle()
    cluster.finish()
    cluster.upgrade("putgate:2")
    cluster.rolling = SLOTS
    cluster.events.clear()
    cluster.settle()
    assert cluster.reason("Ready") == ("True", "Available")
    assert cluster.reason("Reconciling") == ("True", "RolloutQueued")
    assert cluster.reason("BucketReady") == ("True", "Adopted")
    assert cluster.status["api"]["version"] == "0.1.0"
    assert cluster.reconcile().requeue_after == 5
    assert cluster.events == []
    cluster.rolling = SLOTS - 1
    cluster.settle()
    cluster.finish()
    assert cluster.status["api"]["version"] == "2"
    assert cluster.reason("Reconciling") == ("False", "NotReconciling")


def test_the_owner_waits_for_nobody() -> None:
    cluster = Cluster()
    cluster.settle()
    cluster.finish()
    cluster.rolling = 100
    cluster.upgrade("putgate:2")
    cluster.spec({**MINIMAL, "upload": {"urlTTL": "1m"}})
    cluster.settle()
    cluster.finish()
    assert cluster.reason("Ready") == ("True", "Available")
    assert cluster.deployment["metadata"]["annotations"]["putgate.io/rollout"] == "Owner"


def test_a_spec_that_rolls_nothing_is_remembered_all_the_same() -> None:
    cluster = Cluster()
    cluster.settle()
    cluster.finish()
    cluster.spec({**MINIMAL, "access": []})
    cluster.settle()
    cluster.rolling = 100
    cluster.upgrade("putgate:2")
    cluster.settle()
    assert cluster.reason("Reconciling") == ("True", "RolloutQueued")
