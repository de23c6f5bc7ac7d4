from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from putgate_operator import rollout
from putgate_operator.key_state import KeyState, Phase
from putgate_operator.keys import key_id
from putgate_operator.observed import ChildKey
from putgate_operator.reconcile import reconcile
from putgate_protocol.report import Report, ReportedCondition
from tests.operator.core.cluster import Cluster
from tests.operator.core.made import MINIMAL, UID, condition

DEPLOYMENT = ChildKey(kind="Deployment", name="media-putgate-api")
FIRST, SECOND, THIRD = (key_id(UID, token) for token in ("", "one", "two"))
LIFETIME = timedelta(hours=24, minutes=15)


def running() -> Cluster:
    cluster = Cluster()
    cluster.settle()
    cluster.finish()
    cluster.events.clear()
    return cluster


def keys(cluster: Cluster) -> tuple[str, list[str], str]:
    shown = cluster.status["uploadKeys"]
    return shown["active"], shown["accepted"], shown["phase"]


def told(cluster: Cluster) -> list[str]:
    return [event.reason for event in cluster.events if event.reason.startswith("UploadKey")]


def secrets(*ids: str) -> set[str]:
    return {f"media-key-{each}" for each in ids}


def until_retiring(cluster: Cluster) -> None:
    cluster.settle()
    cluster.finish()
    assert keys(cluster)[2] == "Retiring"


def test_a_new_one_has_one_key_from_the_start() -> None:
    cluster = running()
    assert keys(cluster) == (FIRST, [FIRST], "Stable")
    assert set(cluster.secrets) == secrets(FIRST)
    assert "lastRotation" not in cluster.status["uploadKeys"]
    assert told(cluster) == []


def test_a_rotation_goes_step_by_step() -> None:
    cluster = running()
    cluster.annotate(rotate_keys="one")
    cluster.reconcile()
    assert keys(cluster) == (FIRST, [FIRST, SECOND], "Accepting")
    assert set(cluster.secrets) == secrets(FIRST, SECOND)
    cluster.settle()
    while keys(cluster)[2] == "Accepting":
        assert cluster.roll()
        cluster.settle()
    assert keys(cluster) == (SECOND, [FIRST, SECOND], "Signing")
    cluster.finish()
    assert keys(cluster) == (SECOND, [FIRST, SECOND], "Retiring")
    cluster.pass_time(seconds=LIFETIME.total_seconds() - 5)
    desired = cluster.reconcile()
    assert desired.requeue_after is not None
    assert desired.requeue_after <= 7
    assert keys(cluster)[2] == "Retiring"
    cluster.pass_time(seconds=10)
    cluster.settle()
    assert keys(cluster) == (SECOND, [SECOND], "Stable")
    assert set(cluster.secrets) == secrets(FIRST, SECOND)  # pods that still run accept the old one
    cluster.finish()
    assert set(cluster.secrets) == secrets(SECOND)
    assert told(cluster) == ["UploadKeyRotationStarted", "UploadKeySigning", "UploadKeyRetiring", "UploadKeyRotated"]
    assert cluster.status["uploadKeys"]["lastRotation"] == "2026-03-01T12:00:00Z"


def test_one_pod_that_is_ending_is_waited_for() -> None:
    cluster = running()
    lingering = copy.deepcopy(next(iter(cluster.pods.values())))
    lingering["metadata"] |= {"uid": "lingering", "deletionTimestamp": "2026-03-01T12:00:00Z"}
    cluster.annotate(rotate_keys="one")
    cluster.settle()
    for _ in range(20):
        cluster.roll()
        cluster.pods["lingering"] = lingering  # it does not end, and the Deployment does not count it
        cluster._count(cluster.deployment)
        cluster.settle()
    assert rollout.settled(cluster.deployment)
    assert keys(cluster)[2] == "Accepting"
    del cluster.pods["lingering"]
    cluster.finish()
    assert keys(cluster)[2] == "Retiring"


def test_no_key_retires_while_a_pod_of_another_template_is_left() -> None:
    cluster = running()
    old = copy.deepcopy(next(iter(cluster.pods.values())))
    old["metadata"]["uid"] = "old"
    cluster.annotate(rotate_keys="one")
    until_retiring(cluster)
    cluster.pods["old"] = old
    cluster.pass_time(days=2)
    cluster.settle()
    assert keys(cluster)[2] == "Retiring"
    del cluster.pods["old"]
    cluster.settle()
    assert keys(cluster)[2] == "Stable"


def test_another_request_has_to_wait_and_is_told_so_once() -> None:
    cluster = running()
    cluster.annotate(rotate_keys="one")
    cluster.settle()
    cluster.annotate(rotate_keys="two")
    cluster.settle()
    cluster.settle()
    assert told(cluster) == ["UploadKeyRotationStarted", "UploadKeyRotationRefused"]
    assert set(cluster.secrets) == secrets(FIRST, SECOND)
    until_retiring(cluster)
    cluster.pass_time(days=2)
    cluster.finish()
    cluster.finish()
    assert THIRD in keys(cluster)[1]
    assert told(cluster).count("UploadKeyRotationRefused") == 1


def test_without_the_annotation_nothing_rotates() -> None:
    cluster = running()
    cluster.annotate(rotate_keys="one")
    until_retiring(cluster)
    cluster.pass_time(days=2)
    cluster.finish()
    before = keys(cluster)
    del cluster.raw["metadata"]["annotations"]
    cluster.settle()
    cluster.finish()
    assert keys(cluster) == before == (SECOND, [SECOND], "Stable")


def test_a_shorter_session_does_not_cut_off_uploads_that_began_before() -> None:
    cluster = running()
    cluster.annotate(rotate_keys="one")
    cluster.settle()
    cluster.spec({**MINIMAL, "upload": {"sessionTTL": "15m"}})
    until_retiring(cluster)
    cluster.pass_time(hours=23)
    cluster.finish()
    assert keys(cluster)[2] == "Retiring"
    cluster.pass_time(hours=2)
    cluster.finish()
    assert keys(cluster)[2] == "Stable"


def lose(cluster: Cluster, *ids: str) -> None:
    """Their Secrets are deleted, every pod is made anew, and says what it misses."""
    for key in ids:
        del cluster.secrets[f"media-key-{key}"]
    for pod in list(cluster.pods.values()):
        cluster.kill(pod)
    while cluster.roll():
        pass
    cluster.report_all(condition("Authentication", "False", "UploadKeysMissing"))
    cluster.settle()


def heal(cluster: Cluster) -> None:
    cluster.pass_time(minutes=3)
    cluster.settle()
    cluster.finish()


def test_a_lost_key_is_replaced_and_never_made_again() -> None:
    cluster = running()
    lose(cluster, FIRST)
    assert cluster.reason("Ready") == ("False", "UploadKeysMissing")
    assert cluster.secrets == {}  # a slow kubelet is given time
    heal(cluster)
    active, accepted, phase = keys(cluster)
    assert (accepted, phase) == ([active], "Stable")
    assert active != FIRST
    assert set(cluster.secrets) == secrets(active)
    assert cluster.reason("Ready") == ("True", "Available")
    assert told(cluster) == ["UploadKeysMissing", "UploadKeyLost"]


def test_the_word_of_one_pod_loses_no_key() -> None:
    cluster = running()
    cluster.report_all()
    liar, *others = cluster.reports
    assert others
    found = cluster.reports[liar]
    assert isinstance(found, Report)
    missing = ReportedCondition(type="Authentication", status="False", reason="UploadKeysMissing", message="no key")
    cluster.reports[liar] = found.model_copy(update={"upload_keys": [], "conditions": [missing]})
    cluster.pass_time(minutes=3)
    cluster.settle()
    assert keys(cluster) == (FIRST, [FIRST], "Stable")


def test_losing_the_key_that_retires_ends_the_rotation() -> None:
    cluster = running()
    cluster.annotate(rotate_keys="one")
    until_retiring(cluster)
    lose(cluster, FIRST)
    heal(cluster)
    assert keys(cluster) == (SECOND, [SECOND], "Stable")


def test_losing_the_new_key_begins_with_another() -> None:
    cluster = running()
    cluster.annotate(rotate_keys="one")
    cluster.settle()
    assert keys(cluster)[2] == "Accepting"
    lose(cluster, SECOND)
    heal(cluster)
    active, accepted, phase = keys(cluster)
    assert phase == "Retiring"
    assert accepted == [FIRST, active]
    assert active != SECOND
    assert set(cluster.secrets) == secrets(FIRST, active)


def test_losing_all_keys_amid_a_rotation() -> None:
    cluster = running()
    cluster.annotate(rotate_keys="one")
    until_retiring(cluster)
    lose(cluster, FIRST, SECOND)
    heal(cluster)
    active, accepted, phase = keys(cluster)
    assert (accepted, phase) == ([active], "Stable")
    assert active not in (FIRST, SECOND)
    assert cluster.reason("Ready") == ("True", "Available")


@pytest.mark.parametrize(
    "annotation", ["", "{}", "[]", "nonsense", '{"signing":"x","accepted":["x"],"phase":"Stable"}']
)
def test_a_spoilt_record_is_read_from_the_status(annotation: str) -> None:
    cluster = running()
    cluster.annotate(rotate_keys="one")
    until_retiring(cluster)
    before = keys(cluster)
    cluster.deployment["metadata"]["annotations"]["putgate.io/upload-keys"] = annotation
    cluster.settle()
    cluster.finish()
    assert keys(cluster) == before
    assert json.loads(cluster.deployment["metadata"]["annotations"]["putgate.io/upload-keys"])["phase"] == "Retiring"


def test_a_deployment_that_was_deleted_goes_on_with_its_keys() -> None:
    cluster = running()
    cluster.annotate(rotate_keys="one")
    until_retiring(cluster)
    made = dict(cluster.secrets)
    del cluster.children[DEPLOYMENT]
    cluster.settle()
    cluster.finish()
    assert keys(cluster) == (SECOND, [FIRST, SECOND], "Retiring")
    assert cluster.secrets == made
    cluster.pass_time(days=2)
    cluster.finish()
    cluster.finish()
    assert keys(cluster) == (SECOND, [SECOND], "Stable")


def test_an_undone_rollout_brings_no_retired_key_back() -> None:
    cluster = running()
    first = copy.deepcopy(cluster.deployment)
    cluster.annotate(rotate_keys="one")
    until_retiring(cluster)
    cluster.pass_time(days=2)
    cluster.finish()
    cluster.finish()
    assert set(cluster.secrets) == secrets(SECOND)
    cluster.deployment["spec"]["template"] = first["spec"]["template"]
    cluster.deployment["metadata"]["annotations"] = first["metadata"]["annotations"]
    cluster.settle()
    cluster.finish()
    assert keys(cluster) == (SECOND, [SECOND], "Stable")
    assert set(cluster.secrets) == secrets(SECOND)


@given(
    state=st.builds(
        KeyState,
        signing=st.just(FIRST),
        accepted=st.sampled_from([(FIRST,), (FIRST, SECOND)]),
        phase=st.sampled_from(Phase),
        asked=st.sampled_from(["", SECOND]),
        rotated=st.none()
        | st.datetimes().map(lambda time: time.replace(microsecond=0)).filter(lambda time: time.year > 1999),
        lifetime=st.integers(0, 10**6),
        retired=st.sampled_from([(), (THIRD,)]),
        refused=st.sampled_from(["", THIRD]),
    )
)
def test_a_state_is_read_as_it_was_written(state: KeyState) -> None:
    if state.rotated is not None:
        state = replace(state, rotated=state.rotated.replace(tzinfo=UTC))
    assert KeyState.from_text(state.to_text()) == state


def check_keys(cluster: Cluster) -> None:
    """What one pod signs, any other pod that can be asked accepts; and no pod is ready without its keys."""
    pods = [pod for pod in cluster.pods.values() if _serves(pod)]
    for pod in pods:
        signing = cluster.keys_of(pod)["signing"]
        for other in pods:
            assert signing in cluster.keys_of(other)["accepted"], cluster.writes[-20:]


def _serves(pod: dict[str, Any]) -> bool:
    return bool(pod["status"].get("conditions"))


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("rotate"), st.sampled_from(["one", "two", "three"])),
        st.tuples(st.just("roll"), st.integers(1, 12)),
        st.tuples(st.just("spec"), st.sampled_from([{}, {"urlTTL": "1m"}])),
        st.tuples(st.just("scale"), st.integers(1, 3)),
        st.tuples(st.just("wait"), st.sampled_from([1, 3600, 90000])),
        st.tuples(st.just("upgrade"), st.sampled_from(["putgate:2", "putgate:3"])),
        st.tuples(st.just("crash"), st.integers(0, 3)),
    ),
    max_size=16,
)


@settings(max_examples=100)
@given(actions=ACTIONS)
@pytest.mark.slow
def test_no_key_signs_that_some_pod_does_not_accept(actions: list[tuple[str, Any]]) -> None:
    cluster = running()
    for action, value in actions:
        _act(cluster, action, value)
        check_keys(cluster)
        cluster.reconcile()
        check_keys(cluster)
    for _ in range(6):  # a request that had to wait, too
        cluster.finish()
        check_keys(cluster)
        cluster.pass_time(days=2)
    cluster.finish()
    active, accepted, phase = keys(cluster)
    assert (accepted, phase) == ([active], "Stable")
    assert set(cluster.secrets) == secrets(active)
    for pod in cluster.pods.values():
        assert cluster.keys_of(pod) == {"signing": active, "accepted": {active}}


def _act(cluster: Cluster, action: str, value: Any) -> None:
    match action:
        case "rotate":
            cluster.annotate(rotate_keys=value)
        case "roll":
            for _ in range(value):
                cluster.roll()
                check_keys(cluster)
        case "spec":
            cluster.spec({**cluster.raw["spec"], "upload": value})
        case "scale":
            cluster.spec({**cluster.raw["spec"], "api": {"replicas": value}})
        case "wait":
            cluster.pass_time(seconds=value)
        case "upgrade":
            cluster.upgrade(value)
        case _:
            _crash(cluster, value)


def _crash(cluster: Cluster, after: int) -> None:
    """The operator ends after some of its writes."""
    desired = reconcile(cluster.observe())
    cut = type(desired)(
        create_secrets=desired.create_secrets, apply=desired.apply[:after], delete=(), status=cluster.status
    )
    cluster.carry_out(cut)
