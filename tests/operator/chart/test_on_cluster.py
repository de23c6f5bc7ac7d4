"""What the API server makes of the chart's objects."""

from __future__ import annotations

import copy
import json
import secrets
import textwrap
from typing import Any

import pytest
import yaml

from tests.operator.chart.rendering import CHART, RELEASE, rendered, template, with_values
from tests.servers.kube.control_plane import ControlPlane

pytestmark = pytest.mark.slow

ENFORCE = "pod-security.kubernetes.io/enforce"


@pytest.fixture(scope="module")
def restricted(control_plane: ControlPlane) -> str:
    """A namespace that lets in restricted pods only, with the operator's ServiceAccount."""
    name = control_plane.namespace(f"chart-restricted-{secrets.token_hex(4)}")
    control_plane.kubectl("label", "namespace", name, f"{ENFORCE}=restricted", f"{ENFORCE}-version=latest")
    for (kind, _, _), each in rendered({}, namespace=name).items():
        if kind == "ServiceAccount":
            control_plane.apply(each)
    _default_account(control_plane, name)
    return name


def _default_account(plane: ControlPlane, namespace: str) -> None:
    """Whether or not a controller is there to make it; pods are refused without."""
    plane.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}})


def pods(namespace: str) -> dict[str, dict[str, Any]]:
    """The pods of the release, by the name of their container."""
    objects = rendered({}, namespace=namespace)
    (deployment,) = [each for (kind, _, _), each in objects.items() if kind == "Deployment"]
    (test,) = [each for (kind, _, _), each in objects.items() if kind == "Pod"]
    made = deployment["spec"]["template"]
    metadata = {**made["metadata"], "name": "operator", "namespace": namespace}
    return {
        "operator": {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": made["spec"]},
        "ready": test,
    }


def dry_run(plane: ControlPlane, *objects: dict[str, Any]) -> str:
    text = yaml.safe_dump_all(objects)
    return plane.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", input=text)


@pytest.mark.parametrize("pod", ["operator", "ready"])
def test_pods_are_restricted(control_plane: ControlPlane, restricted: str, pod: str) -> None:
    assert "created (server dry run)" in dry_run(control_plane, pods(restricted)[pod])


def test_a_pod_that_is_not_restricted_would_be_refused(control_plane: ControlPlane, restricted: str) -> None:
    pod = copy.deepcopy(pods(restricted)["operator"])
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        dry_run(control_plane, pod)


def test_the_api_server_takes_every_object(control_plane: ControlPlane) -> None:
    name = control_plane.namespace(f"chart-all-{secrets.token_hex(4)}")
    _default_account(control_plane, name)
    done = control_plane.kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "-f",
        "-",
        input=template({}, namespace=name),
    )
    kinds = {line.split("/")[0].split(".")[0] for line in done.splitlines()}
    assert {"customresourcedefinition", "deployment", "clusterrole", "role", "networkpolicy", "service"} <= kinds


def test_the_first_bucket_of_the_notes_is_a_valid_one(control_plane: ControlPlane) -> None:
    name = control_plane.namespace(f"chart-notes-{secrets.token_hex(4)}")
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHART.parents[1] / "crds"))
    control_plane.kubectl("wait", "--for=condition=Established", "crd/uploadbuckets.putgate.io", "--timeout=120s")
    values = {"rbac": {"namespaced": True}}
    notes = with_values(values, "install", RELEASE, str(CHART), "-n", name, "--dry-run=client").stdout
    example = textwrap.dedent(notes.partition("<<END\n")[2].partition("  END\n")[0])
    assert f"apply -n {name} -f" in notes
    control_plane.kubectl("create", "-n", name, "--dry-run=server", "--validate=strict", "-f", "-", input=example)


def test_a_namespaced_operator_can_work_in_its_namespaces_only(control_plane: ControlPlane) -> None:
    home, inside, outside = (control_plane.namespace(f"chart-{name}") for name in ("home", "inside", "outside"))
    values = {"rbac": {"namespaced": True}, "crds": {"enabled": False}, "operator": {"namespaces": [inside]}}
    roles = [
        each
        for (kind, _, _), each in rendered(values, namespace=home).items()
        if kind in {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    ]
    control_plane.apply(*roles)

    def may(verb: str, resource: str, group: str, namespace: str, name: str = "", part: str = "") -> bool:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{home}:{RELEASE}-putgate",
                "resourceAttributes": {
                    "verb": verb,
                    "resource": resource,
                    "group": group,
                    "namespace": namespace,
                    "name": name,
                    "subresource": part,
                },
            },
        }
        answer = control_plane.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(review))
        return bool(json.loads(answer)["status"]["allowed"])

    assert may("patch", "deployments", "apps", inside)
    assert may("patch", "uploadbuckets", "putgate.io", inside, part="status")
    assert may("create", "secrets", "", inside)
    assert may("get", "namespaces", "", inside, name=inside)
    assert may("update", "leases", "coordination.k8s.io", home, name=f"{RELEASE}-putgate")
    assert not may("update", "leases", "coordination.k8s.io", home, name="putgate-operator")
    assert not may("get", "secrets", "", inside)
    assert not may("list", "secrets", "", inside)
    for elsewhere in (home, outside, ""):
        assert not may("patch", "deployments", "apps", elsewhere)
        assert not may("create", "secrets", "", elsewhere)
        assert not may("list", "uploadbuckets", "putgate.io", elsewhere)
    assert not may("get", "namespaces", "", outside, name=outside)
