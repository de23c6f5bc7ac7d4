"""What the chart makes, without a cluster."""

from __future__ import annotations

import re
from typing import Any

import click
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from putgate_operator.cli import run_command
from putgate_operator.kinds import EVENT, LEASE, NAMESPACE, SECRET, UPLOAD_BUCKET, WATCHED, WRITTEN, Kind
from tests.operator.chart.rendering import CHART, GOLDEN, SETS, golden_text, granted, rendered
from tests.operator.chart.rendering import NAMESPACE as RELEASE_NAMESPACE
from tests.operator.crd.definition import DEFINITION
from tests.repository.tree import project
from tests.servers.kube.assets import KUBERNETES

FOREIGN = {"CustomResourceDefinition", "ServiceMonitor"}
"""Kinds that the offline schemas do not know."""

Objects = dict[tuple[str, str, str], dict[str, Any]]


def one(objects: Objects, kind: str) -> dict[str, Any]:
    (found,) = [each for (of, _, _), each in objects.items() if of == kind]
    return found


def rules_of(objects: Objects, kind: str, name: str) -> list[dict[str, Any]]:
    (found,) = {
        str(each["rules"]): each["rules"] for (of, _, at), each in objects.items() if (of, at) == (kind, name)
    }.values()
    return list(found)


@pytest.mark.parametrize("name", SETS)
def test_it_is_as_it_was(name: str) -> None:
    golden = (GOLDEN / f"{name}.yaml").read_text()
    assert golden_text(name) == golden, "look at the change, then run python -m tests.operator.chart.rendering"


@pytest.mark.parametrize("name", SETS)
def test_kinds_of_kubernetes_are_valid(name: str) -> None:
    version = ".".join(KUBERNETES.split(".")[:2])
    checked = 0
    for each in rendered(SETS[name]).values():
        if each["kind"] not in FOREIGN:
            kubernetes_validate.validate(each, version, strict=True)
            checked += 1
    assert checked > 4


def test_an_invalid_object_would_be_noticed() -> None:
    deployment = one(rendered({}), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, ".".join(KUBERNETES.split(".")[:2]), strict=True)


def test_versions_are_those_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == project()["project"]["version"]


def test_the_definition_is_the_one_in_the_repository() -> None:
    found = one(rendered({}), "CustomResourceDefinition")
    assert found["spec"] == DEFINITION["spec"]
    assert found["metadata"]["name"] == DEFINITION["metadata"]["name"]
    assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "annotations" not in one(rendered({"crds": {"keep": False}}), "CustomResourceDefinition")["metadata"]
    assert not [kind for kind, _, _ in rendered({"crds": {"enabled": False}}) if kind == "CustomResourceDefinition"]


@pytest.mark.parametrize("name", SETS)
def test_the_operator_understands_its_arguments(name: str) -> None:
    (container,) = one(rendered(SETS[name]), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["putgate-operator", "run"]
    context = run_command.make_context("run", list(container["args"]))
    said = context.params
    assert said["image"] == container["image"]
    assert said["image_pull_policy"] == container["imagePullPolicy"]
    assert said["lease_namespace"] == RELEASE_NAMESPACE
    assert said["lease_name"] == one(rendered(SETS[name]), "Deployment")["metadata"]["name"]
    assert [said["health_port"]] == [port["containerPort"] for port in container["ports"]]
    operator = SETS[name].get("operator", {})
    assert said["workers"] == operator.get("workers", 8)
    assert said["max_concurrent_rollouts"] == operator.get("maxConcurrentRollouts", 10)
    assert said["resync_seconds"] == operator.get("resyncSeconds", 600)
    assert said["api_server_url"] == operator.get("apiServerURL", "https://kubernetes.default.svc")
    assert list(said["monitoring"]) == operator.get("monitoringNamespaces", [])
    own = [RELEASE_NAMESPACE] if SETS[name].get("rbac", {}).get("namespaced") else []
    assert list(said["namespaces"]) == operator.get("namespaces", own)


def test_an_argument_that_the_operator_does_not_know_would_be_noticed() -> None:
    with pytest.raises(click.NoSuchOption):
        run_command.make_context("run", ["--image=x", "--lease-namespace=x", "--namespaces=x"])


@pytest.mark.parametrize("name", SETS)
def test_selectors_find_the_operator_and_hold_nothing_that_changes(name: str) -> None:
    objects = rendered(SETS[name])
    deployment = one(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [deployment["spec"]["selector"]["matchLabels"]]
    selectors += [
        each["spec"].get("podSelector", each["spec"].get("selector"))["matchLabels"]
        for (kind, _, _), each in objects.items()
        if kind in {"PodDisruptionBudget", "NetworkPolicy"}
    ]
    selectors += [each["spec"]["selector"] for (kind, _, _), each in objects.items() if kind == "Service"]
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    told = dict(text.removeprefix("--pod-label=").split("=") for text in arguments if text.startswith("--pod-label="))
    assert all(selector == selectors[0] for selector in [*selectors, told])
    assert selectors[0].items() <= labels.items()
    assert set(selectors[0]) == {f"app.kubernetes.io/{key}" for key in ("name", "instance", "component")}


def test_common_labels_are_everywhere_and_win_over_nothing() -> None:
    for (kind, _, name), each in rendered(SETS["everything"]).items():
        if name not in {"pg-extra", "text"}:
            assert each["metadata"]["labels"]["team"] == "storage", kind
            assert each["metadata"]["labels"]["app.kubernetes.io/name"] == "gate", kind
    template = one(rendered(SETS["everything"]), "Deployment")["spec"]["template"]
    assert template["metadata"]["labels"]["team"] == "storage"


@pytest.mark.parametrize(
    ("mode", "known", "there"),
    [("Never", True, False), ("Auto", False, False), ("Auto", True, True), ("Always", False, True)],
)
def test_a_service_monitor_is_made_where_it_is_wanted(mode: str, known: bool, there: bool) -> None:
    arguments = ("--api-versions", "monitoring.coreos.com/v1") if known else ()
    objects = rendered({"metrics": {"serviceMonitor": {"renderMode": mode}}}, *arguments)
    assert bool([kind for kind, _, _ in objects if kind == "ServiceMonitor"]) is there


def test_a_budget_is_made_for_several_replicas_only() -> None:
    for replicas, there in ((1, False), (2, True)):
        objects = rendered({"operator": {"replicas": replicas}})
        assert bool([kind for kind, _, _ in objects if kind == "PodDisruptionBudget"]) is there


@pytest.mark.parametrize("policy", ["Always", "Never"])
def test_the_pull_policy_is_that_of_all_pods(policy: str) -> None:
    objects = rendered({"image": {"pullPolicy": policy}})
    containers = [
        *one(objects, "Deployment")["spec"]["template"]["spec"]["containers"],
        *one(objects, "Pod")["spec"]["containers"],
    ]
    assert [each["imagePullPolicy"] for each in containers] == [policy, policy]
    assert f"--image-pull-policy={policy}" in containers[0]["args"]


# What the operator may do


def wanted(kind: Kind, *verbs: str, part: str = "") -> set[tuple[str, str, str]]:
    return {(kind.group, f"{kind.plural}{part}", verb) for verb in verbs}


def test_the_role_is_exactly_what_the_operator_asks_for() -> None:
    asked = set().union(
        wanted(UPLOAD_BUCKET, "list", "watch", "patch"),
        wanted(UPLOAD_BUCKET, "patch", part="/status"),
        wanted(UPLOAD_BUCKET, "update", part="/finalizers"),
        *(wanted(kind, "list", "watch") for kind in WATCHED),
        *(wanted(kind, "get", "create", "patch") for kind in WRITTEN),
        *(wanted(kind, "delete") for kind in WRITTEN if kind.kind in DELETED),
        wanted(SECRET, "create", "delete"),
        wanted(EVENT, "create"),
    )
    cluster = rules_of(rendered({}), "ClusterRole", f"{RELEASE_NAMESPACE}-pg-putgate")
    namespaced = rules_of(rendered({"rbac": {"namespaced": True}}), "Role", f"{RELEASE_NAMESPACE}-pg-putgate")
    assert granted(cluster) == asked | wanted(NAMESPACE, "get", "list", "watch")
    assert granted(namespaced) == asked | wanted(NAMESPACE, "get")


DELETED = {"ConfigMap", "ServiceAccount", "NetworkPolicy", "Deployment", "Job"}
"""Kinds of children that the operator removes itself; the garbage collector takes all others."""


@pytest.mark.parametrize("name", SETS)
def test_nobody_but_the_operator_is_given_rights(name: str) -> None:
    objects = rendered(SETS[name])
    account = one(objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
    bound = [each for (kind, _, _), each in objects.items() if kind in {"RoleBinding", "ClusterRoleBinding"}]
    operator = {"kind": "ServiceAccount", "name": account, "namespace": RELEASE_NAMESPACE}
    assert all(each["subjects"] == [operator] for each in bound)
    # Every role is bound where it is, but those that are only for the cluster's own roles to take in.
    roles = {key for key, each in objects.items() if key[0] in {"Role", "ClusterRole"} and not aggregated(each)}
    assert {
        (each["roleRef"]["kind"], each["metadata"].get("namespace", ""), each["roleRef"]["name"]) for each in bound
    } == roles


def aggregated(role: dict[str, Any]) -> bool:
    return any(label.startswith("rbac.authorization.k8s.io/aggregate-to-") for label in role["metadata"]["labels"])


@pytest.mark.parametrize("name", SETS)
def test_no_role_has_a_wildcard_or_reads_secrets(name: str) -> None:
    for (kind, _, _), each in rendered(SETS[name]).items():
        if kind in {"Role", "ClusterRole"}:
            found = granted(each["rules"])
            assert not [grant for grant in found if any("*" in part for part in grant)]
            assert not found & {("", "secrets", verb) for verb in ("get", "list", "watch", "update", "patch")}


@pytest.mark.parametrize("name", ["pg-putgate", "another"])
def test_the_lease_is_the_releases_own(name: str) -> None:
    """Releases that share a namespace may look after different ones, and must not wait for each other."""
    rules = rules_of(rendered({"fullnameOverride": name}), "Role", f"{name}-lease")
    assert granted(rules) == wanted(LEASE, "create", "get", "update")
    assert [rule.get("resourceNames") for rule in rules] == [None, [name]]


def test_a_namespaced_install_has_a_role_in_each_namespace_and_no_cluster_role() -> None:
    objects = rendered(SETS["everything"])
    name = f"{RELEASE_NAMESPACE}-gate-operator"
    for kind in ("Role", "RoleBinding"):
        assert [at for of, at, called in objects if (of, called) == (kind, name)] == ["apps", "media", "apps-2"]
    assert not [kind for kind, _, _ in objects if kind.startswith("Cluster")]
    bound = objects["RoleBinding", "apps", name]
    assert bound["subjects"] == [{"kind": "ServiceAccount", "name": "gatekeeper", "namespace": RELEASE_NAMESPACE}]


def test_writing_is_for_editors_and_reading_for_viewers() -> None:
    roles = [each for (kind, _, _), each in rendered({}).items() if kind == "ClusterRole"]
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    into = {
        label.removeprefix(prefix): granted(role["rules"])
        for role in roles
        for label in role["metadata"]["labels"]
        if label.startswith(prefix)
    }
    assert set(into) == {"admin", "edit", "view"}
    assert into["admin"] == into["edit"] >= wanted(UPLOAD_BUCKET, "get", "create", "update", "patch", "delete")
    assert {verb for _, _, verb in into["view"]} == {"get", "list", "watch"}
    assert not [role for role in into["edit"] if role[1] == "uploadbuckets/status"]


def test_names_of_two_releases_do_not_meet() -> None:
    def cluster_wide(namespace: str) -> set[tuple[str, str]]:
        found = rendered({"crds": {"enabled": False}}, namespace=namespace)
        return {(kind, name) for (kind, at, name) in found if not at}

    assert cluster_wide("a") & cluster_wide("b") == set()


def test_the_chart_holds_no_template_of_a_name_that_changes() -> None:
    """A selector is immutable: were it made of anything but names, an upgrade would fail."""
    text = (CHART / "templates" / "_helpers.tpl").read_text()
    (selector,) = re.findall(r'define "putgate.selectorLabels" -}}(.*?){{- end }}', text, re.DOTALL)
    assert set(re.findall(r"\.(?:Values|Chart|Release)\.\w+", selector)) == {".Release.Name"}
