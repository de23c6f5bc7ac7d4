from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from putgate_operator.observed import ChildKey
from tests.operator.core.cluster import Cluster
from tests.operator.core.made import FULL, MINIMAL, UID, upload_bucket

JOB = ChildKey(kind="Job", name="media-putgate-remove")
REMOVAL = [JOB, *(ChildKey(kind=kind, name=JOB.name) for kind in ("ConfigMap", "ServiceAccount", "NetworkPolicy"))]
DELETE = {**MINIMAL, "deletionPolicy": "Delete"}


def running(spec: dict[str, Any]) -> Cluster:
    cluster = Cluster(upload_bucket(spec))
    cluster.settle()
    cluster.finish()
    cluster.writes.clear()
    cluster.events.clear()
    return cluster


def deleted(spec: dict[str, Any]) -> Cluster:
    cluster = running(spec)
    delete(cluster)
    return cluster


def delete(cluster: Cluster) -> None:
    cluster.raw["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    cluster.raw["metadata"]["generation"] += 1


def gone(cluster: Cluster) -> None:
    """The Deployment's ReplicaSets and pods, as the garbage collector takes them."""
    cluster.pods.clear()
    cluster.sets.clear()


def stopped(spec: dict[str, Any] = DELETE) -> Cluster:
    """Deleted, and no API pod is left."""
    cluster = deleted(spec)
    cluster.settle()
    gone(cluster)
    cluster.settle()
    return cluster


def end(cluster: Cluster, condition: str, **said: str) -> None:
    """The Job ends; its pod has written what it had to say."""
    job = cluster.children[JOB]
    job["status"] = {
        "conditions": [
            {"type": condition, "status": "True", "lastTransitionTime": "2026-03-01T12:00:00Z", "message": "x"}
        ]
    }
    terminated = {"exitCode": 0 if condition == "Complete" else 1, "message": json.dumps(said) if said else ""}
    cluster.pods["remover"] = {
        "metadata": {
            "name": "remover",
            "uid": "remover",
            "labels": job["spec"]["template"]["metadata"]["labels"],
            "ownerReferences": [{"uid": job["metadata"]["uid"], "controller": True}],
        },
        "spec": {},
        "status": {
            "phase": "Succeeded",
            "containerStatuses": [{"name": "remove", "state": {"terminated": terminated}}],
        },
    }


def finalizers(cluster: Cluster) -> list[str]:
    found: list[str] = cluster.raw["metadata"].get("finalizers", [])
    return found


def test_retain_holds_nobody_up() -> None:
    cluster = deleted(MINIMAL)
    desired = cluster.reconcile()
    assert cluster.writes == []
    assert (desired.apply, desired.delete, desired.events, desired.finalizer) == ((), (), (), None)


def test_the_bucket_is_removed_when_no_api_pod_is_left() -> None:
    cluster = deleted(DELETE)
    cluster.settle()
    assert ChildKey(kind="Deployment", name="media-putgate-api") not in cluster.children
    assert cluster.reason("Ready") == ("False", "WaitingForPods")
    assert JOB not in cluster.children
    cluster.pods.pop(next(iter(cluster.pods)))
    cluster.settle()
    assert JOB not in cluster.children
    gone(cluster)
    cluster.settle()
    assert all(key in cluster.children for key in REMOVAL)
    assert cluster.reason("Reconciling") == ("True", "RemovingBucket")
    assert all("ownerReferences" not in cluster.children[key]["metadata"] for key in REMOVAL)


@pytest.mark.parametrize(("created", "handed"), [(True, ["--claim", "ab" * 16]), (False, [])])
def test_the_removal_is_told_which_claim_created_the_bucket(created: bool, handed: list[str]) -> None:
    cluster = deleted(DELETE)
    cluster.raw["status"]["bucket"] = {"created": created, "claimID": "ab" * 16}
    cluster.settle()
    gone(cluster)
    cluster.settle()
    command = cluster.children[JOB]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[1:3] == ["remove-bucket", "--wait"]
    assert command[5:] == handed


def test_a_removed_bucket_lets_its_object_go() -> None:
    cluster = stopped()
    end(cluster, "Complete", result="Removed", message="bucket media is removed")
    cluster.writes.clear()
    cluster.reconcile()
    assert cluster.writes == [*(f"delete {key}" for key in REMOVAL), "finalizer remove"]
    assert finalizers(cluster) == []
    assert [(event.type, event.reason) for event in cluster.events] == [("Normal", "BucketRemoved")]
    cluster.writes.clear()
    cluster.reconcile()
    assert cluster.writes == []


def test_a_job_that_succeeded_without_a_word_has_succeeded() -> None:
    cluster = stopped()
    end(cluster, "Complete")
    gone(cluster)
    cluster.reconcile()
    assert finalizers(cluster) == []


def test_an_owners_account_is_used_and_none_is_made() -> None:
    cluster = stopped(FULL)
    assert JOB in cluster.children
    assert REMOVAL[2] not in cluster.children
    assert cluster.children[JOB]["spec"]["template"]["spec"]["serviceAccountName"] == "media-irsa"


def test_without_credentials_the_bucket_is_kept_and_the_object_goes() -> None:
    cluster = stopped()
    end(cluster, "Failed", result="CredentialsMissing", message="Secret media-s3 is gone.")
    desired = cluster.reconcile()
    assert desired.abandoned == "CredentialsMissing"
    assert finalizers(cluster) == []
    (event,) = cluster.events
    assert (event.type, event.reason) == ("Warning", "CredentialsMissing")
    assert "Secret media-s3 is gone." in event.message
    assert JOB not in cluster.children


@pytest.mark.parametrize(
    ("said", "reason", "user_error", "patience"),
    [
        ({"result": "NotEmpty", "message": "it holds objects"}, "NotEmpty", True, 300),
        ({"result": "Adopted", "message": "it was there before"}, "Adopted", True, 300),
        ({"result": "NotOurs", "message": "another's"}, "NotOurs", True, 300),
        ({"result": "AccessDenied", "message": "grant it"}, "AccessDenied", True, 300),
        ({"result": "StoreUnreachable", "message": "it is down"}, "StoreUnreachable", False, 60),
        ({"result": "nonsense, really", "message": "?"}, "RemovalFailed", False, 60),
        ({}, "RemovalFailed", False, 60),
    ],
)
def test_what_fails_is_tried_again(said: dict[str, str], reason: str, user_error: bool, patience: int) -> None:
    cluster = stopped()
    end(cluster, "Failed", **said)
    cluster.settle()
    work, other = ("Stalled", "Reconciling") if user_error else ("Reconciling", "Stalled")
    assert cluster.reason(work) == ("True", reason)
    assert cluster.reason(other)[0] == "False"
    assert cluster.reason("Ready") == ("False", reason)
    assert said.get("message", "the Job failed") in cluster.condition("Ready")["message"]
    assert "deletionPolicy: Retain" in cluster.condition("Ready")["message"]
    assert [(event.type, event.reason) for event in cluster.events] == [("Warning", reason)]
    assert finalizers(cluster) == ["putgate.io/bucket"]
    first = cluster.children[JOB]["metadata"]["uid"]
    assert cluster.reconcile().requeue_after == patience
    cluster.pass_time(seconds=patience)
    cluster.settle()
    assert cluster.children[JOB]["metadata"]["uid"] != first
    end(cluster, "Complete", result="Removed", message="removed")
    cluster.reconcile()
    assert finalizers(cluster) == []


def test_retain_ends_the_tries() -> None:
    cluster = stopped()
    end(cluster, "Failed", result="NotEmpty", message="it holds objects")
    cluster.settle()
    cluster.spec(MINIMAL)
    cluster.reconcile()
    assert finalizers(cluster) == []
    assert not any(key in cluster.children for key in REMOVAL)


def test_a_result_that_is_not_seen_yet_is_waited_for() -> None:
    cluster = stopped()
    end(cluster, "Failed", result="NotEmpty", message="")
    cluster.pods["remover"]["status"] = {"phase": "Running"}
    cluster.settle()
    assert cluster.reason("Reconciling") == ("True", "RemovingBucket")


def test_a_replica_set_that_could_start_pods_is_waited_for() -> None:
    cluster = deleted(DELETE)
    cluster.settle()
    cluster.pods.clear()
    cluster.settle()
    assert cluster.reason("Reconciling") == ("True", "WaitingForPods")
    assert JOB not in cluster.children
    for found in cluster.sets.values():  # somebody else's holds nobody up
        found["metadata"]["annotations"] = {"putgate.io/uploadbucket-uid": "another"}
    cluster.settle()
    assert JOB in cluster.children


def test_a_removal_that_no_node_took_is_tried_again() -> None:
    cluster = stopped()
    end(cluster, "Failed", result="", message="")
    cluster.pods["remover"]["status"] = {"phase": "Failed", "reason": "OutOfcpu"}
    cluster.settle()
    assert cluster.reason("Reconciling") == ("True", "RemovalFailed")


def test_a_mesh_beside_the_removal_does_not_speak_for_it() -> None:
    cluster = stopped()
    end(cluster, "Failed", result="NotEmpty", message="the bucket holds objects")
    beside = {"name": "istio-proxy", "state": {"terminated": {"exitCode": 0, "message": "bye"}}}
    cluster.pods["remover"]["status"]["containerStatuses"].insert(0, beside)
    cluster.settle()
    assert cluster.reason("Stalled") == ("True", "NotEmpty")


def test_what_keeps_the_removal_from_running_is_told() -> None:
    cluster = stopped()
    end(cluster, "Complete")
    cluster.children[JOB]["status"] = {}
    waiting = {"name": "remove", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}
    cluster.pods["remover"]["status"] = {"phase": "Pending", "containerStatuses": [waiting]}
    cluster.settle()
    assert cluster.reason("Ready") == ("False", "ImagePullFailed")


def test_a_spec_that_makes_no_settings_removes_nothing() -> None:
    cluster = stopped()
    del cluster.children[JOB]
    spec = copy.deepcopy(DELETE)
    del spec["storage"]["s3"]["endpoint"]
    cluster.spec(spec)
    cluster.settle()
    assert cluster.reason("Stalled") == ("True", "SpecInvalid")
    assert JOB not in cluster.children


def test_in_a_namespace_that_goes_too_nothing_can_be_made() -> None:
    cluster = deleted(DELETE)
    cluster.namespace = replace(cluster.namespace, terminating=True)
    desired = cluster.reconcile()
    assert desired.apply == ()
    assert desired.abandoned == "NamespaceTerminating"
    assert finalizers(cluster) == []


def test_nothing_else_is_applied_for_a_deleting_one() -> None:
    cluster = deleted(DELETE)
    service = ChildKey(kind="Service", name="media-putgate-api")
    del cluster.children[service]
    cluster.settle()
    gone(cluster)
    cluster.settle()
    assert service not in cluster.children
    assert [write for write in cluster.writes if write.startswith("apply")] == [
        f"apply {key}" for key in (REMOVAL[3], REMOVAL[1], REMOVAL[2], REMOVAL[0])
    ]


def test_an_orphaned_api_is_stopped_too() -> None:
    cluster = deleted(DELETE)
    for child in cluster.children.values():
        child["metadata"].pop("ownerReferences")
    cluster.settle()
    assert ChildKey(kind="Deployment", name="media-putgate-api") not in cluster.children


def test_the_deployment_of_another_is_not() -> None:
    cluster = running(DELETE)
    key = ChildKey(kind="Deployment", name="media-putgate-api")
    del cluster.children[key]
    cluster.put({"kind": "Deployment", "metadata": {"name": key.name}})
    delete(cluster)
    gone(cluster)
    cluster.settle()
    assert key in cluster.children
    assert JOB in cluster.children


def test_a_job_that_is_there_is_not_touched() -> None:
    cluster = stopped()
    before = dict(cluster.children[JOB])
    cluster.upgrade("putgate:2")
    cluster.settle()
    assert cluster.children[JOB] == before


def test_the_removal_of_a_predecessor_is_cleared_away_first() -> None:
    cluster = deleted(DELETE)
    metadata = {"name": JOB.name, "annotations": {"putgate.io/uploadbucket-uid": "another"}}
    cluster.put(
        {"kind": "Job", "metadata": metadata, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    )
    gone(cluster)
    cluster.settle()
    assert finalizers(cluster) == ["putgate.io/bucket"]
    assert cluster.children[JOB]["metadata"]["annotations"]["putgate.io/uploadbucket-uid"] == UID


def test_a_job_of_somebody_else_is_a_conflict() -> None:
    cluster = deleted(DELETE)
    cluster.put({"kind": "Job", "metadata": {"name": JOB.name}})
    gone(cluster)
    cluster.settle()
    assert cluster.reason("Stalled") == ("True", "NameConflict")
    assert "Retain" in cluster.condition("Stalled")["message"]
    assert finalizers(cluster) == ["putgate.io/bucket"]


def test_a_pause_holds_the_removal_back_but_not_retain() -> None:
    cluster = running(DELETE)
    cluster.annotate(paused="true")
    delete(cluster)
    cluster.writes.clear()
    cluster.settle()
    assert cluster.writes == ["status"]
    assert cluster.reason("Reconciling") == ("True", "Paused")
    cluster.spec(MINIMAL)
    cluster.settle()
    assert finalizers(cluster) == []


def test_one_that_was_never_seen_before_can_be_deleted() -> None:
    cluster = Cluster(upload_bucket(DELETE, finalizers=["putgate.io/bucket"]))
    delete(cluster)
    cluster.settle()
    assert JOB in cluster.children
