"""Every right that the chart grants is needed: an operator's whole life uses each, or a list says why it is granted."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.aio import config
from kubernetes.aio.client.configuration import Configuration

from putgate_operator.api_server import ApiServer
from putgate_operator.deletion import FINALIZER
from putgate_operator.desired.deployment import UPLOAD_KEYS
from putgate_operator.desired.names import REMOVAL_APP, REMOVE_CONTAINER
from putgate_operator.observe import Observer
from putgate_operator.observed import OperatorSettings
from putgate_operator.seen import Seen
from tests.operator.crd.objects import EVERYTHING
from tests.operator.plane.operators import Home, OperatorProcess
from tests.operator.plane.rights import Right, enforced, objects, rights, used
from tests.servers.kube.light_nodes import LightNodes
from tests.servers.kube.waiting import until

pytestmark = pytest.mark.slow

FINALIZERS = Right("putgate.io", "uploadbuckets/finalizers", "update")

ALLOWED = {
    FINALIZERS: "no request needs it, but what some clusters ask of who names an owner; tried below",
}
"""Rights that are granted though no request is made by them, and why."""

MOST: dict[str, Any] = EVERYTHING["spec"]
LEAST: dict[str, Any] = {
    "storage": {
        "type": "S3",
        "s3": {key: MOST["storage"]["s3"][key] for key in ("bucket", "endpoint", "credentials")},
        "prefix": MOST["storage"]["prefix"],
    },
    "upload": {"partSize": MOST["upload"]["partSize"]},
}
"""The same UploadBucket with every optional field, and with none but what cannot be changed."""

IMAGE = "putgate:test"
NAME = "media-putgate-api"


@pytest.mark.parametrize("everywhere", [False, True], ids=["namespaced", "cluster-wide"])
def test_all_that_is_granted_is_used(home: Home, nodes: LightNodes, everywhere: bool) -> None:
    operator = begin(home, everywhere=everywhere)
    children_come_back(home)
    options_come(home)
    keys_are_rotated(home)
    options_go(home)
    if everywhere:
        asyncio.run(namespace_is_behind(home))
    bucket_is_removed(home, nodes)
    assert operator.stop() == 0
    assert left_by_removal(home) == ""
    granted = rights(objects(home.namespace, "operator", everywhere=everywhere))

    def balanced() -> bool:
        asked = used(home.plane, {home.user}, home.began)
        assert asked <= granted
        assert granted - asked == ALLOWED.keys()
        return True

    until("the log has the end of every watch", balanced)


def test_naming_an_owner_needs_its_right_on_strict_clusters(home: Home, nodes: LightNodes) -> None:
    home.account("operator")
    role = withdraw(home, FINALIZERS)
    home.expect_forbidden("cannot set blockOwnerDeletion")
    home.operator()
    home.bucket()
    condition = home.until_reason("ChildRefused")
    assert "cannot set blockOwnerDeletion" in condition["message"]
    assert home.children() == {}
    home.plane.apply(role)
    home.until_ready()


def test_pods_of_the_api_have_no_rights_of_their_own(home: Home, nodes: LightNodes) -> None:
    """They fetch the cluster's token keys, as every ServiceAccount may where the cluster has not forbidden it."""
    home.operator()
    home.bucket()
    home.until_ready()
    pods = home.plane.items("-n", home.namespace, "pods", "-l", "putgate.io/uploadbucket=media")
    (account,) = {each["spec"]["serviceAccountName"] for each in pods}
    assert account == NAME
    assert enforced(home.plane, home.namespace, account) == enforced(home.plane, home.namespace, "default")
    for path in ("/.well-known/openid-configuration", "/openid/v1/jwks"):
        user = f"--as=system:serviceaccount:{home.namespace}:{account}"
        assert json.loads(home.plane.kubectl("get", user, "--raw", path))


def withdraw(home: Home, right: Right) -> dict[str, Any]:
    """Take a right from the operator. Returns the role as it was."""
    (role,) = [each for each in objects(home.namespace, "operator", everywhere=False) if right in rights([each])]
    less = copy.deepcopy(role)
    less["rules"] = [rule for rule in role["rules"] if right not in rights([{"rules": [rule]}])]
    home.plane.apply(less)
    until("the right is gone", lambda: right not in enforced(home.plane, home.namespace, "operator"))
    return role


# A life


def begin(home: Home, *, everywhere: bool) -> OperatorProcess:
    """Somebody else holds a name of a child, and gives it back."""
    spec = {"ports": [{"port": 9}], "selector": {"a": "b"}}
    metadata = {"namespace": home.namespace, "name": NAME}
    home.plane.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    operator = home.operator(everywhere=everywhere)
    home.bucket(**LEAST)
    home.until_reason("NameConflict", kind="Stalled")
    until("an Event tells of it", lambda: "NameConflict" in reasons(home))
    home.kubectl("delete", "service", NAME)
    home.until_ready()
    return operator


def children_come_back(home: Home) -> None:
    before = home.children()
    for child in before:
        home.patch(child.lower(), {"metadata": {"labels": {"app.kubernetes.io/managed-by": "somebody"}}})
    home.until_children(before, within=120)
    for child in before:
        home.kubectl("delete", child.lower(), "--wait=false")
    home.until_children(before, within=120)
    home.until_ready()


def options_come(home: Home) -> None:
    """One is a ServiceAccount of the owner's, so the operator's goes; another lets it hold the deletion up."""
    metadata = {"namespace": home.namespace, "name": MOST["api"]["serviceAccountName"]}
    home.plane.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    home.bucket(**MOST)
    found = home.until_ready()
    assert found["metadata"]["finalizers"] == [FINALIZER]
    until("the ServiceAccount goes", lambda: f"ServiceAccount/{NAME}" not in home.children(), within=120)


def keys_are_rotated(home: Home) -> None:
    """With the end of retiring brought forward, since no session may live for less than 15 minutes."""
    old = status_of_keys(home)["active"]
    home.kubectl("annotate", "uploadbucket", "media", "putgate.io/rotate-keys=now")

    def retiring() -> dict[str, Any] | None:
        annotations = home.get("deployment", NAME)["metadata"]["annotations"]
        state: dict[str, Any] = json.loads(annotations[UPLOAD_KEYS])
        return state if state["phase"] == "Retiring" else None

    state = until("the old key retires", retiring, within=120)
    now = {UPLOAD_KEYS: json.dumps({**state, "until": "2026-01-01T00:00:00Z"})}
    home.patch(f"deployment/{NAME}", {"metadata": {"annotations": now}})
    until("the old key is gone", lambda: home.get("secret", f"media-key-{old}") is None, within=120)
    new = status_of_keys(home)["active"]
    assert new != old
    assert home.get("secret", f"media-key-{new}") is not None
    home.until_ready()


def status_of_keys(home: Home) -> dict[str, Any]:
    return dict(home.get("uploadbucket", "media")["status"]["uploadKeys"])


def options_go(home: Home) -> None:
    home.bucket(**LEAST)
    found = home.until_ready()
    assert "finalizers" not in found["metadata"]
    assert f"ServiceAccount/{NAME}" in home.children()


async def namespace_is_behind(home: Home) -> None:
    """An UploadBucket may be seen before its new namespace is. A race; so the operator's own code is asked to look."""
    configuration = Configuration()
    await config.load_kube_config(config_file=str(home.kubeconfig), client_configuration=configuration)
    settings = OperatorSettings(image=IMAGE, version="0", operator_namespace=home.namespace, operator_pod_labels={})
    async with contextlib.aclosing(ApiServer(configuration)) as server:
        observer = Observer(server, Seen(), settings, lambda: datetime.now(UTC), namespaces_watched=True)
        await observer.look((home.namespace, "media"))


def bucket_is_removed(home: Home, nodes: LightNodes) -> None:
    """What the removal's pod would say is said for it; the Job's controller does the rest."""
    home.patch("uploadbucket/media", {"spec": {"storage": {"management": "Create"}, "deletionPolicy": "Delete"}})
    home.until_ready()
    mine = (home.namespace, "media", IMAGE)
    nodes.stuck.add(mine)
    home.kubectl("delete", "uploadbucket", "media", "--wait=false")
    pod = until("the removal has a pod", lambda: removal_pod(home), within=120)
    home.kubectl("patch", pod, "--subresource=status", "--type=merge", "-p", json.dumps({"status": done()}))
    until("the UploadBucket is gone", lambda: home.get("uploadbucket", "media") is None, within=120)
    until("an Event tells of it", lambda: "BucketRemoved" in reasons(home))
    nodes.stuck.discard(mine)


def removal_pod(home: Home) -> str:
    return home.kubectl("get", "pod", "-l", f"app.kubernetes.io/name={REMOVAL_APP}", "-oname").strip()


def left_by_removal(home: Home) -> str:
    """Nobody else would ever take it away, and a Job that is there runs."""
    kinds = "job,configmap,serviceaccount,networkpolicy"
    return home.kubectl("get", kinds, "-l", f"app.kubernetes.io/name={REMOVAL_APP}", "-oname")


def done() -> dict[str, Any]:
    """The status of the removal's pod when it has removed the bucket."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    said = json.dumps({"result": "Removed", "message": "The bucket is removed."})
    ended = {"exitCode": 0, "reason": "Completed", "message": said, "startedAt": now, "finishedAt": now}
    container = {"name": REMOVE_CONTAINER, "ready": False, "restartCount": 0, "image": IMAGE, "imageID": ""}
    return {"phase": "Succeeded", "containerStatuses": [{**container, "state": {"terminated": ended}}]}


def reasons(home: Home) -> set[str]:
    """Of the namespace's Events."""
    return {each["reason"] for each in home.plane.items("-n", home.namespace, "events")}
