"""Where the cluster does not let the operator do its work, the UploadBucket says so, and nobody writes without end."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from putgate_operator.brake import BURST, EVERY
from tests.operator.plane.operators import Home
from tests.servers.kube.light_nodes import LightNodes
from tests.servers.kube.waiting import until

pytestmark = pytest.mark.slow


def allow_no(home: Home, kind: str) -> None:
    """A quota of none, in force."""
    metadata = {"name": "none", "namespace": home.namespace}
    home.plane.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {kind: "0"}}})
    until(
        "the quota is in force",
        lambda: home.get("resourcequota", "none").get("status", {}).get("hard", {}).get(kind) == "0",
    )


def test_a_quota_is_named_and_its_end_noticed(home: Home, nodes: LightNodes) -> None:
    allow_no(home, "services")
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


def test_what_is_refused_holds_up_only_what_needs_it(home: Home, nodes: LightNodes) -> None:
    allow_no(home, "secrets")
    home.operator()
    home.bucket()
    condition = home.until_reason("ChildRefused")
    assert "Secret media-key-" in condition["message"]
    written = {name.partition("/")[0] for name in home.children()}
    assert {"ConfigMap", "NetworkPolicy", "Service"} <= written
    assert "Deployment" not in written
    assert "ConfigMap/media-putgate-rules" in home.children()
    # A key that could not be made is none, now and when the quota is gone.
    assert "uploadKeys" not in home.get("uploadbucket", "media")["status"]
    home.kubectl("delete", "resourcequota", "none")
    home.until_ready()
    active = home.get("uploadbucket", "media")["status"]["uploadKeys"]["active"]
    assert home.get("secret", f"media-key-{active}") is not None


def test_a_webhook_that_fails_is_named(home: Home, nodes: LightNodes) -> None:
    name = f"fail-{home.namespace}.example.com"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]}
    hook = {
        "name": name,
        "clientConfig": {"url": "https://127.0.0.1:1/never"},
        "rules": [rule],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": home.namespace}},
    }
    home.plane.apply(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [hook],
        }
    )
    try:
        until("the webhook is in force", lambda: refuses_services(home))
        home.operator()
        home.bucket()
        condition = home.until_reason("ChildRefused")
        assert "failed calling webhook" in condition["message"]
        assert name in condition["message"]
    finally:
        home.plane.kubectl("delete", "validatingwebhookconfiguration", name)
    home.until_ready()


def refuses_services(home: Home) -> bool:
    try:
        home.kubectl("create", "service", "clusterip", "probe", "--tcp=80", "--dry-run=server")
    except AssertionError as error:
        return "failed calling webhook" in str(error)
    return False


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
    assert len(repairs) <= 3 * (BURST + 1 + (time.monotonic() - began) / EVERY)
    delete_policy(home, altering)
    until("it is quiet", lambda: home.condition("Reconciling").get("status") == "False", within=300)
    assert home.condition("Ready")["status"] == "True"
