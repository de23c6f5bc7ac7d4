from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings

from putgate_operator.observed import ChildKey
from putgate_operator.reconcile import reconcile
from tests.operator.core.cluster import Cluster
from tests.operator.core.made import FULL, MINIMAL, upload_bucket
from tests.operator.core.specs import SPECS

OURS = {"kind": "UploadBucket", "name": "media", "uid": upload_bucket()["metadata"]["uid"], "controller": True}
PREDECESSORS = {**OURS, "uid": "another"}


def ready(spec: dict[str, Any] | None = None) -> Cluster:
    cluster = Cluster(upload_bucket(spec))
    cluster.settle()
    cluster.finish()
    return cluster


def state(cluster: Cluster) -> dict[str, Any]:
    """All that the operator owns, but for what counts writes."""
    children = copy.deepcopy(cluster.children)
    for child in children.values():
        child.pop("status", None)
        for field in ("uid", "generation"):
            child["metadata"].pop(field)
        child["metadata"]["annotations"].pop("putgate.io/generation", None)
    return {
        "children": children,
        "secrets": set(cluster.secrets),
        "finalizers": cluster.raw["metadata"].get("finalizers", []),
    }


def test_a_crash_between_any_two_writes_is_harmless() -> None:
    first = Cluster().reconcile()
    for count in range(len(first.apply)):
        cluster = Cluster()
        cut = first.apply[:count]
        cluster.carry_out(type(first)(create_secrets=first.create_secrets, apply=cut, status={}))
        cluster.settle()
        cluster.finish()
        assert state(cluster) == state(ready())
        assert cluster.secrets == {"media-key-" + cluster.status["uploadKeys"]["active"]: 0}


def test_looking_changes_nothing() -> None:
    cluster = ready(FULL)
    cluster.spec(MINIMAL)
    before = copy.deepcopy((cluster.raw, cluster.children, cluster.pods, cluster.sets))
    first, second = reconcile(cluster.observe()), reconcile(cluster.observe())
    assert first == second
    assert first.apply
    assert before == (cluster.raw, cluster.children, cluster.pods, cluster.sets)


def test_the_deployment_comes_after_all_that_it_mounts() -> None:
    desired = Cluster(upload_bucket(FULL)).reconcile()
    kinds = [manifest["metadata"]["name"] for manifest in desired.apply]
    at = kinds.index("media-putgate-api", kinds.index("media-putgate-rules"))
    assert desired.create_secrets
    assert [each["kind"] for each in desired.apply].index("Deployment") > at


@settings(max_examples=30)
@given(spec=SPECS)
def test_the_second_look_writes_nothing(spec: dict[str, Any]) -> None:
    cluster = ready(spec)
    assert cluster.reason("Ready") == ("True", "Available")
    before = list(cluster.writes)
    desired = cluster.reconcile()
    assert cluster.writes == before
    assert (desired.apply, desired.delete, desired.create_secrets, desired.events, desired.finalizer) == (
        (),
        (),
        (),
        (),
        None,
    )


@settings(max_examples=20)
@given(spec=SPECS, other=SPECS)
def test_there_and_back_is_where_it_began(spec: dict[str, Any], other: dict[str, Any]) -> None:
    cluster = ready(spec)
    before = state(cluster)
    for each in (other, spec):
        cluster.spec(each)
        cluster.settle()
        cluster.finish()
    cluster.sets = {
        uid: each
        for uid, each in cluster.sets.items()
        if each["spec"]["template"] == cluster.deployment["spec"]["template"]
    }
    cluster.settle()
    assert state(cluster) == before


def test_changed_and_removed_children_come_back() -> None:
    cluster = ready(FULL)
    before = state(cluster)
    for key in list(cluster.children):
        removed = cluster.children.pop(key)
        cluster.settle()
        cluster.finish()
        assert state(cluster) == before, key
        if key.kind != "ConfigMap" or "settings" not in key.name:
            cluster.children[key]["metadata"]["labels"] = {}
            cluster.settle()
            assert state(cluster) == before, key
        assert removed["metadata"]["name"] == key.name


def test_an_undone_rollout_is_done_again() -> None:
    cluster = ready()
    first = copy.deepcopy(cluster.deployment)
    cluster.spec({**MINIMAL, "upload": {"urlTTL": "1m"}})
    cluster.settle()
    cluster.finish()
    wanted = state(cluster)
    cluster.deployment["spec"]["template"] = first["spec"]["template"]
    cluster.deployment["metadata"]["annotations"] = first["metadata"]["annotations"]
    cluster.deployment["metadata"]["generation"] += 1
    cluster.settle()
    cluster.finish()
    assert state(cluster) == wanted


def test_settings_that_nothing_names_are_removed() -> None:
    cluster = ready()
    (first,) = (key for key in cluster.children if "-settings-" in key.name)
    cluster.spec({**MINIMAL, "upload": {"urlTTL": "1m"}})
    cluster.settle()
    assert first in cluster.children  # pods use it
    cluster.finish()
    assert first in cluster.children  # `rollout undo` could bring it back
    cluster.sets.pop(next(uid for uid, each in cluster.sets.items() if first.name in str(each)))
    cluster.settle()
    assert first not in cluster.children


def test_settings_of_others_are_not() -> None:
    cluster = ready()
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "media-putgate-settings-0000000000"}}
    cluster.put(other)
    cluster.settle()
    assert ChildKey(kind="ConfigMap", name="media-putgate-settings-0000000000") in cluster.children


def test_settings_that_were_replaced_by_other_content_are_made_anew() -> None:
    cluster = ready()
    (key,) = (key for key in cluster.children if "-settings-" in key.name)
    wanted = state(cluster)
    cluster.children[key]["data"] = {"settings.yaml": "{}"}
    cluster.settle()
    assert state(cluster) == wanted


def test_the_made_service_account_goes_when_no_pod_runs_as_it() -> None:
    cluster = ready()
    account = ChildKey(kind="ServiceAccount", name="media-putgate-api")
    cluster.spec({**MINIMAL, "api": {"serviceAccountName": "own"}})
    cluster.settle()
    assert account in cluster.children
    cluster.finish()
    assert account not in cluster.children


def test_a_paused_one_is_left_alone() -> None:
    cluster = ready()
    shown = cluster.status
    cluster.annotate(paused="true")
    cluster.children.pop(ChildKey(kind="Service", name="media-putgate-api"))
    cluster.spec(FULL)
    cluster.writes.clear()
    cluster.events.clear()
    cluster.settle()
    assert cluster.writes == ["status"]
    assert [event.reason for event in cluster.events] == ["Paused"]
    assert cluster.reason("Reconciling") == ("True", "Paused")
    assert cluster.reason("Ready") == ("True", "Available")
    assert cluster.status["observedGeneration"] == shown["observedGeneration"] == 1
    cluster.annotate(paused="false")
    cluster.settle()
    cluster.finish()
    assert cluster.reason("Ready") == ("True", "Available")
    assert cluster.status["observedGeneration"] == 2


@pytest.mark.parametrize("kind", ["ServiceAccount", "NetworkPolicy", "Service", "PodDisruptionBudget", "Deployment"])
def test_what_another_made_is_left_alone(kind: str) -> None:
    cluster = Cluster()
    foreign = {"kind": kind, "metadata": {"name": "media-putgate-api"}, "spec": {"theirs": True}}
    cluster.put(foreign)
    before = cluster.child(kind, "media-putgate-api").copy()
    cluster.settle()
    cluster.finish()
    assert cluster.child(kind, "media-putgate-api") == before
    for condition in ("Stalled", "Ready"):
        found = cluster.condition(condition)
        assert (found["status"], found["reason"]) == ("True" if condition == "Stalled" else "False", "NameConflict")
        assert f"{kind} media-putgate-api" in found["message"]
    assert [event.reason for event in cluster.events].count("NameConflict") == 1
    cluster.children.pop(ChildKey(kind=kind, name="media-putgate-api"))
    cluster.settle()
    cluster.finish()
    assert cluster.reason("Ready") == ("True", "Available")
    assert cluster.reason("Stalled") == ("False", "NotStalled")


def test_rules_of_others_are_never_mounted() -> None:
    cluster = Cluster()
    cluster.put({"kind": "ConfigMap", "metadata": {"name": "media-putgate-rules"}, "data": {"rules.yaml": "theirs"}})
    cluster.settle()
    assert not any(key.kind == "Deployment" for key in cluster.children)
    assert cluster.secrets == {}
    assert "uploadKeys" not in cluster.status


def test_nobody_is_sent_to_a_service_of_others() -> None:
    cluster = Cluster()
    cluster.put({"kind": "Service", "metadata": {"name": "media-putgate-api"}})
    cluster.settle()
    assert ChildKey(kind="ConfigMap", name="media-putgate") not in cluster.children
    assert "url" not in cluster.status
    assert "clientConfigMapName" not in cluster.status


def test_the_children_of_a_predecessor_are_waited_for() -> None:
    cluster = Cluster()
    metadata = {"name": "media-putgate-api", "ownerReferences": [PREDECESSORS]}
    cluster.put({"kind": "Deployment", "metadata": metadata, "spec": {}})
    cluster.settle()
    assert cluster.reason("Reconciling") == ("True", "PredecessorLeaving")
    assert cluster.reason("Stalled") == ("False", "NotStalled")
    assert cluster.events == []
    cluster.children.pop(ChildKey(kind="Deployment", name="media-putgate-api"))
    cluster.settle()
    cluster.finish()
    assert cluster.reason("Ready") == ("True", "Available")


def test_a_spec_that_the_api_would_refuse_is_not_passed_on() -> None:
    cluster = ready()
    before = state(cluster)
    spec = copy.deepcopy(MINIMAL)
    del spec["storage"]["s3"]["endpoint"]
    cluster.spec(spec)
    cluster.settle()
    assert state(cluster) == before
    assert cluster.reason("Stalled") == ("True", "SpecInvalid")
    assert "endpoint is needed" in cluster.condition("Ready")["message"]
    assert cluster.status["observedGeneration"] == 2
    cluster.spec(MINIMAL)
    cluster.settle()
    assert cluster.reason("Ready") == ("True", "Available")


def test_the_first_status_knows_nothing() -> None:
    cluster = Cluster()
    cluster.reconcile()
    assert {each["status"] for each in cluster.status["conditions"]} == {"Unknown"}
    assert [each["type"] for each in cluster.status["conditions"]] == [
        "Ready",
        "Reconciling",
        "Stalled",
        "CredentialsValid",
        "BucketReady",
        "BucketConfigured",
        "IntegrityVerified",
        "ApiAvailable",
    ]
    assert cluster.events == []


def test_the_finalizer_follows_the_policy() -> None:
    cluster = ready({**MINIMAL, "deletionPolicy": "Delete"})
    assert cluster.raw["metadata"]["finalizers"] == ["putgate.io/bucket"]
    assert cluster.writes[0] == "finalizer add"
    cluster.spec(MINIMAL)
    cluster.settle()
    assert cluster.raw["metadata"]["finalizers"] == []


def test_a_removal_that_was_begun_for_a_predecessor_is_stopped() -> None:
    cluster = Cluster()
    for kind in ("Job", "ConfigMap", "ServiceAccount", "NetworkPolicy"):
        metadata = {"name": "media-putgate-remove", "annotations": {"putgate.io/uploadbucket-uid": "another"}}
        cluster.put({"kind": kind, "metadata": metadata})
    cluster.put({"kind": "Secret", "metadata": {"name": "media-putgate-remove"}})
    cluster.reconcile()
    assert [key.kind for key in cluster.children if key.name == "media-putgate-remove"] == ["Secret"]
