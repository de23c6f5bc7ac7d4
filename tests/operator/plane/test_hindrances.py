"""Where the cluster does not let the operator do its work, the UploadBucket says so, and nobody writes without end."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from putgate_operator.brake import BURST, REFILL
from tests.operator.plane.operators import Home
from tests.servers.kube.light_nodes import LightNodes
from tests.servers.kube.waiting import until

pytestmark = pytest.mark.slow

QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "none"},
    "spec": {"hard": {"services": "0"}},
}


def test_a_quota_is_named_and_its_end_noticed(home: Home, nodes: LightNodes) -> None:
    home.plane.apply({**QUOTA, "metadata": {"name": "none", "namespace": home.namespace}})
    until(
        "the quota is in force",
        lambda: home.get("resourcequota", "none").get("status", {}).get("hard", {}).get("services") == "0",
    )
    home.operator()
    home.bucket()
    condition = home.until_reason("ChildRefused")
    assert "Service media-putgate-api" in condition["message"]
    assert "exceeded quota: none" in condition["message"]
    assert home.condition("Reconciling")["reason"] == "ChildRefused"
    assert home.condition("Stalled")["status"] == "False"

    def told() -> bool:
        return any(each["reason"] == "ChildRefused" for each in home.plane.items("-n", home.namespace, "events"))

    until("an Event tells of it", told)
    home.kubectl("delete", "resourcequota", "none")
    home.until_ready()
    assert "Service/media-putgate-api" in home.children()


@pytest.fixture
def altering(home: Home) -> Iterator[str]:
    """An admission policy that alters every Service of the namespace, until it is deleted. Its name."""
    name = f"alter-{home.namespace}"
    match = {
        "resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["services"]}
        ]
    }
    patch = """[JSONPatch{op: "add", path: "/metadata/annotations/putgate.io~1desired-hash", value: "altered"}]"""
    home.plane.apply(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": match,
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "matchResources": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": home.namespace}}
                },
            },
        },
    )
    yield name
    delete_policy(home, name)


def delete_policy(home: Home, name: str) -> None:
    kinds = ("mutatingadmissionpolicybinding", "mutatingadmissionpolicy")
    for kind in kinds:
        home.plane.kubectl("delete", "--ignore-not-found", kind, name)


def test_what_an_admission_policy_alters_each_time_is_not_fought_over(
    home: Home, nodes: LightNodes, altering: str
) -> None:
    operator = home.operator()
    probe = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "probe", "namespace": home.namespace, "annotations": {"a": "b"}},
        "spec": {"ports": [{"port": 80}]},
    }

    def in_force() -> bool:
        home.plane.apply(probe)
        return "putgate.io/desired-hash" in home.get("service", "probe")["metadata"]["annotations"]

    until("the policy is in force", in_force)
    mark, began = home.plane.mark(), time.monotonic()
    home.bucket()
    condition = home.until_reason("ChildDisputed", kind="Reconciling")
    assert "Service media-putgate-api" in condition["message"]
    # What is in dispute keeps nothing else from being made.
    until("it is served meanwhile", lambda: home.condition("Ready").get("status") == "True")
    home.looked(operator, 3)
    repairs = [each for each in home.writes(mark) if each[1:] == ("services", "media-putgate-api")]
    # Each repair is an apply, a merge and an apply.
    assert len(repairs) <= 3 * (BURST + 1 + (time.monotonic() - began) / REFILL)
    delete_policy(home, altering)
    until("it is quiet", lambda: home.condition("Reconciling").get("status") == "False", within=120)
    assert home.condition("Ready")["status"] == "True"
