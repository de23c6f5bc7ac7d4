from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from putgate_operator.observed import Unreachable
from putgate_operator.pods import Trouble
from putgate_operator.resources import UploadBucket
from putgate_operator.status import hindered
from tests.operator.core.cluster import Cluster
from tests.operator.core.made import MINIMAL, NOW, condition, report, upload_bucket


def starting() -> Cluster:
    """Applied, with one pod that is not ready."""
    cluster = Cluster()
    cluster.settle()
    cluster.roll()
    cluster.settle()
    assert cluster.reason("Ready") == ("False", "Progressing")
    return cluster


def running() -> Cluster:
    cluster = Cluster()
    cluster.settle()
    cluster.finish()
    cluster.events.clear()
    return cluster


def pod(cluster: Cluster) -> dict[str, Any]:
    return next(iter(cluster.pods.values()))


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"containerStatuses": [{"name": "api", "state": {"waiting": {"reason": reason, "message": message}}}]}


CRASHED = {"exitCode": 2, "message": "settings: storage.s3: no endpoint\n"}
CRASHING = {
    "containerStatuses": [
        {
            "name": "api",
            "restartCount": 4,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": CRASHED},
        }
    ]
}
RESTARTING = {"containerStatuses": [{"name": "api", "restartCount": 1, "state": {"terminated": {"exitCode": 137}}}]}
UNSCHEDULABLE = {
    "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available."}
    ]
}


@pytest.mark.parametrize(
    ("status", "reason", "says"),
    [
        (UNSCHEDULABLE, "Unschedulable", "0/3 nodes are available."),
        (waiting("ErrImagePull", "not found"), "ImagePullFailed", "not found"),
        (waiting("ImagePullBackOff"), "ImagePullFailed", "the operator's image setting"),
        (waiting("CreateContainerConfigError", "would run as root"), "ContainerNotCreated", "would run as root"),
        (CRASHING, "CrashLooping", "exit code 2: settings: storage.s3: no endpoint"),
        (RESTARTING, "CrashLooping", "exit code 137: no message; see `kubectl logs --previous"),
    ],
)
def test_what_keeps_a_pod_from_running(status: dict[str, Any], reason: str, says: str) -> None:
    cluster = starting()
    pod(cluster)["status"] |= status
    cluster.report_all(condition("CredentialsValid", "False", "SecretMissing", user_error=True))
    cluster.settle()
    assert cluster.reason("Ready") == ("False", reason)  # what keeps a pod from running comes before what it reports
    assert cluster.reason("Reconciling") == ("True", reason)
    assert cluster.reason("Stalled") == ("False", "NotStalled")
    assert says in cluster.condition("Ready")["message"]
    assert [(event.type, event.reason) for event in cluster.events][-1:] == [("Warning", "SecretMissing")]
    assert ("Warning", reason) in [(event.type, event.reason) for event in cluster.events]
    told = len(cluster.events)
    pod(cluster)["status"] = {"phase": "Running", "startTime": "2026-03-01T12:00:00Z"}
    cluster.finish()
    assert cluster.reason("Ready") == ("True", "Available")
    assert [event.reason for event in cluster.events[told:]] == ["Ready"]


def test_volumes_get_some_time() -> None:
    cluster = starting()
    pod(cluster)["status"] |= waiting("ContainerCreating")
    cluster.settle()
    assert cluster.reason("Ready") == ("False", "Progressing")
    assert cluster.reconcile().requeue_after is not None
    cluster.pass_time(seconds=90)
    cluster.settle()
    assert cluster.reason("Ready") == ("False", "MountFailed")
    assert "kubectl describe pod" in cluster.condition("Ready")["message"]


def test_pods_that_the_cluster_refuses() -> None:
    cluster = starting()
    refused = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"}
    cluster.deployment["status"]["conditions"] = [refused]
    cluster.settle()
    assert cluster.reason("Ready") == ("False", "PodsRefused")
    assert "exceeded quota" in cluster.condition("Ready")["message"]


def test_a_rollout_that_does_not_get_on() -> None:
    cluster = starting()
    deadline = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    cluster.deployment["status"]["conditions"] = [deadline]
    cluster.settle()
    assert cluster.reason("Ready") == ("False", "ProgressDeadlineExceeded")


@pytest.mark.parametrize(
    ("kind", "reason", "user_error"),
    [
        ("CredentialsValid", "SecretMissing", True),
        ("CredentialsValid", "SecretKeyMissing", True),
        ("CredentialsValid", "CredentialsRejected", True),
        ("BucketReady", "BucketNotFound", True),
        ("BucketReady", "BucketInUse", True),
        ("BucketReady", "WrongRegion", True),
        ("BucketReady", "StoreUnreachable", False),
        ("IntegrityVerified", "IntegrityNotEnforced", True),
        ("IntegrityVerified", "ProbeInconclusive", False),
        ("Authentication", "JWKSForbidden", True),
        ("Authentication", "JWKSUnreachable", False),
    ],
)
def test_what_pods_report(kind: str, reason: str, user_error: bool) -> None:
    cluster = starting()
    cluster.report_all(condition(kind, "False", reason, message="do this", user_error=user_error))
    cluster.settle()
    assert cluster.reason("Ready") == ("False", reason)
    # A pod knows credentials as files only; who has to mend it knows a Secret.
    named = "Secret media-s3 with the keys accessKeyId, secretAccessKey: " if reason.startswith("Secret") else ""
    assert cluster.condition("Ready")["message"] == f"{named}do this"
    work, other = ("Stalled", "Reconciling") if user_error else ("Reconciling", "Stalled")
    assert cluster.reason(work) == ("True", reason)
    assert cluster.reason(other) == ("False", f"Not{other}")
    if kind != "Authentication":
        assert cluster.reason(kind) == ("False", reason)
    assert [(event.type, event.reason) for event in cluster.events] == [("Warning", reason)]
    cluster.finish()
    assert cluster.reason("Ready") == ("True", "Available")
    assert cluster.reason(work) == ("False", f"Not{work}")


def test_later_trouble_with_the_store_takes_nobody_out_of_service() -> None:
    cluster = running()
    cluster.report_all(condition("BucketReady", "False", "StoreUnreachable", message="it is down"))
    cluster.settle()
    assert cluster.reason("Ready") == ("True", "Available")
    assert cluster.reason("BucketReady") == ("False", "StoreUnreachable")
    assert cluster.reason("Reconciling") == ("True", "StoreUnreachable")
    assert [event.reason for event in cluster.events] == ["StoreUnreachable"]


def test_a_store_without_lifecycle_rules_is_as_good() -> None:
    cluster = running()
    cluster.report_all(condition("BucketConfigured", "False", "LifecycleUnsupported", message="clean up yourself"))
    cluster.settle()
    assert cluster.reason("BucketConfigured") == ("False", "LifecycleUnsupported")
    assert cluster.reason("Ready") == ("True", "Available")
    assert cluster.reason("Reconciling") == ("False", "NotReconciling")
    assert cluster.reason("Stalled") == ("False", "NotStalled")
    assert [(event.type, event.reason) for event in cluster.events] == [("Warning", "LifecycleUnsupported")]


def test_the_worst_report_wins() -> None:
    cluster = running()
    first, second = cluster.pods
    known = cluster.reports[first]
    cluster.reports[first] = report(
        first,
        known.settings_hash,  # type: ignore[union-attr]
        condition("CredentialsValid", "False", "SecretMissing", user_error=True),
        integrity={"tier": "md5", "probed_at": "2026-03-01T10:00:00Z", "findings": ["weak"]},
    )
    cluster.settle()
    assert cluster.reason("CredentialsValid") == ("False", "SecretMissing")
    assert cluster.status["integrity"] == {"tier": "md5", "probedAt": "2026-03-01T10:00:00Z", "findings": ["weak"]}
    assert cluster.reports[second] == report(second, known.settings_hash, upload_keys=known.upload_keys)  # type: ignore[union-attr]


@pytest.mark.parametrize("silent", [Unreachable(why="it did not answer within 2 s"), "other settings", "another pod"])
def test_a_ready_pod_without_a_report_stays_ready(silent: Any) -> None:
    cluster = running()
    uid = next(iter(cluster.pods))
    if isinstance(silent, str):
        fields = {"pod": {"name": "x", "uid": "x"}} if silent == "another pod" else {}
        silent = report(
            uid, "0" * 10 if silent == "other settings" else cluster.status["api"]["settingsHash"], **fields
        )
    cluster.reports[uid] = silent
    cluster.settle()
    assert cluster.reason("Ready") == ("True", "Available")
    assert cluster.reason("Reconciling") == ("False", "NotReconciling")
    for kind in ("CredentialsValid", "BucketReady", "BucketConfigured", "IntegrityVerified"):
        assert cluster.reason(kind) == ("Unknown", "ReportUnreachable")
    assert "port 8081" in cluster.condition("BucketReady")["message"]
    assert cluster.status["integrity"]["tier"] == "sha256"  # known before, and not unlearnt
    cluster.report_all()
    cluster.settle()
    assert cluster.reason("BucketReady") == ("True", "Adopted")


def test_bad_news_outweighs_no_news() -> None:
    cluster = running()
    cluster.report_all(condition("BucketReady", "False", "AccessDenied", user_error=True))
    cluster.reports[next(iter(cluster.pods))] = Unreachable(why="gone")
    cluster.settle()
    assert cluster.reason("BucketReady") == ("False", "AccessDenied")
    assert cluster.reason("CredentialsValid") == ("Unknown", "ReportUnreachable")


def test_reports_of_forged_pods_do_not_count() -> None:
    cluster = running()
    forged = {**pod(cluster)}
    forged["metadata"] = {**forged["metadata"], "name": "forged", "uid": "forged", "ownerReferences": []}
    cluster.pods["forged"] = forged
    hash_now = cluster.status["api"]["settingsHash"]
    cluster.reports["forged"] = report("forged", hash_now, condition("BucketReady", "False", "Forged", user_error=True))
    cluster.settle()
    assert cluster.reason("BucketReady") == ("True", "Adopted")


def test_reports_about_another_object_do_not_count() -> None:
    cluster = starting()
    uid = next(iter(cluster.pods))
    hash_now = cluster.status["api"]["settingsHash"]
    bad = condition("BucketReady", "False", "Other", user_error=True)
    cluster.reports[uid] = report(uid, hash_now, bad, uploadbucket_uid="other")
    cluster.settle()
    assert cluster.reason("BucketReady") == ("Unknown", "Progressing")


def test_ready_waits_for_the_wanted_template() -> None:
    cluster = running()
    cluster.spec({**MINIMAL, "upload": {"urlTTL": "1m"}})
    cluster.settle()
    assert cluster.reason("Ready") == ("False", "Progressing")
    assert cluster.reason("ApiAvailable") == ("True", "Serving")
    assert cluster.reason("BucketReady") == ("Unknown", "Progressing")
    while cluster.roll():
        cluster.report_all()
        cluster.settle()
        left = {each["metadata"]["annotations"]["putgate.io/template-hash"] for each in cluster.pods.values()}
        staying = [each for each in cluster.pods.values() if "deletionTimestamp" not in each["metadata"]]
        old = {each["metadata"]["annotations"]["putgate.io/template-hash"] for each in staying}
        if cluster.reason("Ready")[0] == "True":
            assert len(old) == 1
        assert left
    assert cluster.reason("Ready") == ("True", "Available")


def test_one_replica_of_two_is_enough_to_be_ready() -> None:
    cluster = running()
    cluster.kill(pod(cluster))
    cluster._count(cluster.deployment)
    cluster.settle()
    assert cluster.reason("Ready") == ("True", "Available")
    assert cluster.reason("Reconciling") == ("True", "Progressing")
    assert "1 of 2" in cluster.condition("Ready")["message"]
    cluster.kill(pod(cluster))
    cluster._count(cluster.deployment)
    cluster.settle()
    assert cluster.reason("Ready") == ("False", "Progressing")
    assert cluster.reason("ApiAvailable") == ("False", "NoReplicaAvailable")


def test_a_transition_has_its_time_and_a_message_has_none() -> None:
    cluster = running()
    began = cluster.condition("BucketReady")["lastTransitionTime"]
    cluster.pass_time(minutes=5)
    cluster.report_all(condition("BucketReady", reason="Adopted", message="in other words"))
    cluster.settle()
    assert cluster.condition("BucketReady")["message"] == "in other words"
    assert cluster.condition("BucketReady")["lastTransitionTime"] == began
    cluster.report_all(condition("BucketReady", "False", "StoreUnreachable"))
    cluster.settle()
    assert cluster.condition("BucketReady")["lastTransitionTime"] == "2026-03-01T12:05:00Z"


def test_every_condition_says_for_which_generation_it_is() -> None:
    cluster = running()
    cluster.spec({**MINIMAL, "access": []})
    cluster.settle()
    assert {each["observedGeneration"] for each in cluster.status["conditions"]} == {2}
    assert cluster.status["observedGeneration"] == 2


def test_messages_are_bounded() -> None:
    cluster = starting()
    pod(cluster)["status"] |= waiting("ErrImagePull", "x" * 5000)
    cluster.settle()
    assert len(cluster.condition("Ready")["message"]) == 1024


def test_only_time_is_waited_for_by_the_clock() -> None:
    cluster = running()
    assert cluster.reconcile().requeue_after is None
    cluster.deployment["status"]["availableReplicas"] = 0
    assert cluster.reconcile().requeue_after == timedelta(seconds=30).total_seconds()


def test_what_clients_need_is_in_the_status() -> None:
    status = running().status
    assert status["url"] == "http://media-putgate-api.apps.svc"
    assert status["audience"] == "putgate.io/apps/media"
    assert status["clientConfigMapName"] == "media-putgate"
    assert status["api"]["selector"] == "app.kubernetes.io/name=putgate-api,putgate.io/uploadbucket=media"
    assert status["bucket"] == {"created": False, "claimID": "c1"}
    assert status["limits"] == {"partSize": 8388608}
    with_tls = Cluster(upload_bucket({**MINIMAL, "api": {"tls": {"secretName": "tls"}}}))
    with_tls.settle()
    assert with_tls.status["url"] == "https://media-putgate-api.apps.svc"


REFUSED = Trouble(reason="ChildRefused", message="exceeded quota")


def shown(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """The conditions after something was refused."""
    bucket = UploadBucket.parse(cluster.raw)
    after = hindered(bucket, cluster.status, NOW, REFUSED)
    assert {**after, "conditions": 0} == {**cluster.status, "conditions": 0}
    return {each["type"]: (each["status"], each["reason"]) for each in after["conditions"]}


def test_what_is_refused_says_so_and_does_not_hide_that_it_serves() -> None:
    unready = shown(starting())
    assert unready["Ready"] == ("False", "ChildRefused")
    assert unready["Reconciling"] == ("True", "ChildRefused")
    serving = running()
    assert shown(serving)["Ready"] == ("True", "Available")
    assert shown(serving)["Reconciling"] == ("True", "ChildRefused")
    assert shown(serving)["BucketReady"] == serving.reason("BucketReady")


def test_what_waits_for_the_owner_is_shown_rather_than_what_was_refused() -> None:
    cluster = starting()
    cluster.report_all(condition("CredentialsValid", "False", "SecretMissing", user_error=True))
    cluster.settle()
    assert shown(cluster)["Stalled"] == ("True", "SecretMissing")
    assert shown(cluster)["Ready"] == ("False", "SecretMissing")


def test_a_refusal_may_come_before_any_status() -> None:
    bucket = UploadBucket.parse(upload_bucket())
    after = hindered(bucket, {}, NOW, REFUSED)
    found = {each["type"]: each["reason"] for each in after["conditions"]}
    assert (found["Ready"], found["Reconciling"], found["BucketReady"]) == (
        "ChildRefused",
        "ChildRefused",
        "Progressing",
    )
