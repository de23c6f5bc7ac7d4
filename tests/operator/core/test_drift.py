from __future__ import annotations

import copy
from typing import Any

import pytest

from putgate_operator.desired.drift import holds, quantity, unchanged
from tests.operator.core.cluster import Cluster
from tests.operator.core.made import FULL, upload_bucket


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        ({"cpu": "500m"}, {"cpu": "0.5"}),
        ({"cpu": "2"}, {"cpu": 2}),
        ({"memory": "1Gi"}, {"memory": "1024Mi"}),
        ({"memory": "128974848"}, {"memory": "123Mi"}),
        ({"memory": "1e3"}, {"memory": "1k"}),
        ({"cpu": "1500m"}, {"cpu": "1.5"}),
    ],
)
def test_quantities_are_numbers(live: Any, wanted: Any) -> None:
    assert holds({"resources": {"requests": live}}, {"resources": {"requests": wanted}})


@pytest.mark.parametrize(("live", "wanted"), [("1", "1m"), ("1Gi", "1G"), ("1", "2"), ("", "1"), ("many", "1")])
def test_other_quantities_are_others(live: str, wanted: str) -> None:
    assert not holds({"limits": {"memory": live}}, {"limits": {"memory": wanted}})


def test_what_is_no_quantity_equals_itself_alone() -> None:
    assert quantity("a lot") == "a lot"
    assert quantity("1.2.3") == "1.2.3"


@pytest.mark.parametrize(
    ("live", "wanted", "same"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),  # others' fields are theirs
        ({"a": 1}, {"a": 2}, False),
        ({}, {"a": 1}, False),
        ({}, {"a": []}, True),  # the API server drops what is empty
        ({}, {"a": {}}, True),
        ({}, {"a": ""}, True),
        ({}, {"a": False}, False),  # absent may mean true
        ({}, {"a": 0}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": "1"}, {"a": 1}, False),
        ([{"name": "x", "v": 1}, {"name": "y"}], [{"name": "x", "v": 1}], True),  # a merged list
        ([{"name": "y"}, {"name": "x", "v": 1}], [{"name": "x", "v": 1}, {"name": "y"}], True),
        ([{"name": "y"}], [{"name": "x"}], False),
        (["a", "b"], ["a"], False),  # an atomic list
        (["a", "b"], ["b", "a"], False),
        ([{"port": 80, "protocol": "TCP", "more": 1}], [{"port": 80, "protocol": "TCP"}], True),
        ([{"port": 80}, {"port": 81}], [{"port": 80}], False),
        ("text", {"a": 1}, False),
        ({"a": 1}, "text", False),
    ],
)
def test_live_holds_wanted(live: Any, wanted: Any, same: bool) -> None:
    assert holds(live, wanted) is same


def deployed() -> tuple[Cluster, dict[str, Any]]:
    cluster = Cluster(upload_bucket(FULL))
    desired = cluster.reconcile()
    return cluster, next(each for each in desired.apply if each["kind"] == "Deployment")


def test_what_the_api_server_adds_is_no_drift() -> None:
    cluster, manifest = deployed()
    live = copy.deepcopy(cluster.deployment)
    live["metadata"] |= {"resourceVersion": "7", "managedFields": [{}], "creationTimestamp": "2026-03-01T12:00:00Z"}
    live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "3"
    pod = live["spec"]["template"]["spec"]
    pod |= {"dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler"}
    pod["containers"][0]["resources"]["requests"]["cpu"] = "500m"
    del pod["hostNetwork"], live["spec"]["paused"]  # it leaves out what is false
    live["status"] = {"replicas": 3}
    assert unchanged(live, manifest)


@pytest.mark.parametrize(
    "edit",
    [
        lambda live: live["spec"].update(replicas=1),
        lambda live: live["spec"]["template"]["spec"]["containers"][0].update(image="other"),
        lambda live: live["spec"]["template"]["spec"]["containers"][0]["command"].append("--more"),
        lambda live: live["spec"]["template"]["spec"]["containers"][0]["env"].pop(),
        lambda live: live["spec"]["template"]["spec"]["containers"][0].pop("readinessProbe"),
        lambda live: live["spec"]["template"]["spec"].pop("automountServiceAccountToken"),
        lambda live: live["spec"]["template"]["spec"]["containers"].append({"name": "beside", "image": "other"}),
        lambda live: live["spec"]["template"]["spec"].update(hostNetwork=True),
        lambda live: live["spec"].update(paused=True),
        lambda live: live["spec"]["template"]["spec"]["volumes"].pop(0),
        lambda live: live["spec"]["template"]["spec"]["tolerations"].append({"operator": "Exists"}),
        lambda live: live["metadata"]["labels"].pop("putgate.io/uploadbucket"),
        lambda live: live["metadata"].pop("ownerReferences"),
        lambda live: live["metadata"]["annotations"].update({"putgate.io/desired-hash": "0" * 16}),
        lambda live: live["metadata"].pop("annotations"),
    ],
)
def test_what_somebody_changes_is_drift(edit: Any) -> None:
    cluster, manifest = deployed()
    edit(cluster.deployment)
    assert not unchanged(cluster.deployment, manifest)


def test_nothing_live_is_drift() -> None:
    assert not unchanged(None, deployed()[1])
