"""What is wanted is there, comes back, goes away, and is written once."""

from __future__ import annotations

import pytest

from tests.operator.plane.operators import Home
from tests.servers.kube.waiting import until

pytestmark = pytest.mark.slow

CHILDREN = {
    "ConfigMap/media-putgate",
    "ConfigMap/media-putgate-rules",
    "Deployment/media-putgate-api",
    "NetworkPolicy/media-putgate-api",
    "PodDisruptionBudget/media-putgate-api",
    "Service/media-putgate-api",
    "ServiceAccount/media-putgate-api",
}

FULL = {
    "upload": {"maxObjectSize": "10Gi", "urlTTL": "5m", "sessionTTL": "48h", "allowedContentTypes": ["image/png"]},
    "download": {"urlTTL": "1m", "disposition": "Attach"},
    "instantUpload": {"scope": "Disabled", "minSize": "1Mi"},
    "integrity": {"mode": "Unverified"},
    "access": [
        {
            "name": "team",
            "subjects": [{"kind": "ServiceAccount", "name": "uploader", "namespace": "apps"}],
            "verbs": ["upload", "download"],
            "prefixes": ["team/{node}/"],
            "maxObjectSize": "1Gi",
        }
    ],
    "api": {
        "replicas": 3,
        "resources": {"limits": {"memory": "256Mi", "cpu": "0.5"}},
        "tls": {"secretName": "media-tls"},
        "cors": {"allowedOrigins": ["https://app.example.com"]},
        "scheduling": {
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
            "topologySpread": "None",
        },
    },
}


def settings_of(home: Home) -> set[str]:
    return {name for name in home.children() if name.startswith("ConfigMap/media-putgate-settings-")}


def versions_of(home: Home) -> dict[str, str]:
    listed = home.plane.items("-n", home.namespace, "all,configmap,secret,uploadbucket")
    return {f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["resourceVersion"] for each in listed}


def test_an_upload_bucket_becomes_ready_and_is_written_once(home: Home) -> None:
    operator = home.operator("--resync-seconds=1")
    home.bucket()
    found = home.until_ready()
    assert set(home.children()) - settings_of(home) == CHILDREN
    assert len(settings_of(home)) == 1
    status = found["status"]
    assert status["url"] == f"http://media-putgate-api.{home.namespace}.svc"
    assert status["audience"] == f"putgate.io/{home.namespace}/media"
    assert status["api"]["readyReplicas"] == 2

    home.looked(operator, 3)
    mark = home.plane.mark()
    versions = versions_of(home)
    home.looked(operator, 5)
    assert home.writes(mark) == []
    assert operator.stop() == 0
    again = home.operator("--resync-seconds=1")
    until("it leads", lambda: again.metric("putgate_operator_leading") == 1)
    home.looked(again, 3)
    assert home.writes(mark) == []
    assert versions_of(home) == versions


def test_what_is_deleted_or_edited_comes_back(home: Home) -> None:
    home.operator()
    home.bucket()
    home.until_ready()
    before = home.children()
    for child in before:
        home.kubectl("delete", child.lower(), "--wait=false")
    home.until_children(before, within=30)

    home.patch("service/media-putgate-api", {"spec": {"ports": [{"name": "http", "port": 81, "targetPort": "http"}]}})
    home.patch("deployment/media-putgate-api", {"spec": {"replicas": 7}})
    home.patch("configmap/media-putgate-rules", {"data": {"rules.yaml": "{}"}})
    home.patch("networkpolicy/media-putgate-api", {"spec": {"egress": [{}]}})
    home.patch("poddisruptionbudget/media-putgate-api", {"spec": {"maxUnavailable": 2}})
    home.until_children(before, within=30)
    home.until_ready()


def test_every_optional_field_on_and_off_leaves_nothing_behind(home: Home) -> None:
    home.operator()
    home.bucket()
    home.until_ready()
    before = home.children()
    home.bucket(**FULL)
    found = home.until_ready()
    assert found["status"]["api"]["readyReplicas"] == 3
    assert found["status"]["url"].startswith("https://")
    assert home.children() != before
    home.bucket()
    home.until_ready()
    home.until_children(before, within=60)


@pytest.mark.parametrize("kind", ["service", "configmap", "deployment"])
def test_what_belongs_to_others_is_left_alone(home: Home, kind: str) -> None:
    name = "media-putgate-rules" if kind == "configmap" else "media-putgate-api"
    foreign = {
        "service": {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 9}], "selector": {"a": "b"}}},
        "configmap": {"apiVersion": "v1", "kind": "ConfigMap", "data": {"theirs": "kept"}},
        "deployment": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"a": "b"}},
                "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "c", "image": "theirs"}]},
                },
            },
        },
    }[kind]
    home.plane.apply({**foreign, "metadata": {"name": name, "namespace": home.namespace}})
    before = home.get(kind, name)
    home.operator()
    home.bucket()
    condition = home.until_reason("NameConflict", kind="Stalled")
    assert name in condition["message"]
    after = home.get(kind, name)
    assert (after["metadata"]["uid"], after.get("spec"), after.get("data")) == (
        before["metadata"]["uid"],
        before.get("spec"),
        before.get("data"),
    )
    assert "ownerReferences" not in after["metadata"]
    home.kubectl("delete", kind, name)
    home.until_ready()


def test_paused_writes_nothing(home: Home) -> None:
    operator = home.operator("--resync-seconds=1")
    home.bucket()
    home.until_ready()
    home.kubectl("annotate", "uploadbucket", "media", "putgate.io/paused=true")
    home.until_reason("Paused", kind="Reconciling")
    mark = home.plane.mark()
    home.kubectl("delete", "service", "media-putgate-api")
    home.looked(operator, 3)
    assert home.writes(mark) == []
    home.kubectl("annotate", "uploadbucket", "media", "putgate.io/paused-")
    until("the service is back", lambda: home.get("service", "media-putgate-api"), within=30)
    home.until_ready()


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_retain_never_holds_a_deletion_up(home: Home, cascade: str, running: bool) -> None:
    operator = home.operator()
    home.bucket()
    home.until_ready()
    if not running:
        operator.stop()
    home.kubectl("delete", "uploadbucket", "media", f"--cascade={cascade}", "--timeout=120s")
    if cascade == "orphan":
        assert home.get("deployment", "media-putgate-api")
    else:
        until("the children are gone", lambda: home.children() == {}, within=120)


def test_a_scaled_upload_bucket_scales_its_pods(home: Home) -> None:
    home.operator()
    home.bucket()
    home.until_ready()
    home.kubectl("scale", "uploadbucket/media", "--replicas=4")
    until(
        "four replicas", lambda: home.get("uploadbucket", "media")["status"]["api"].get("readyReplicas") == 4, within=60
    )
    home.until_ready()
