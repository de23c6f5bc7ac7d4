"""The stand-in's pure parts: what it decides, without a cluster."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.servers.node.client import Object
from tests.servers.node.environment import Cluster, NotYet, environment, expand, service_variables
from tests.servers.node.names import hosts_file
from tests.servers.node.payload import File, owned, payload, tokens_of
from tests.servers.node.scheduling import choose, fits
from tests.servers.node.services import routes_of
from tests.servers.node.states import Place, Running, State, Terminated, Waiting, phase, pod_status

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
POD: Object = {"metadata": {"namespace": "apps", "name": "one", "uid": "u", "labels": {"app": "x"}}, "spec": {}}


def node(name: str, *, taints: list[Object] | None = None, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints or []}}


def wanting(**spec: Any) -> Object:
    return {"metadata": {"namespace": "apps", "name": "p"}, "spec": spec}


def affinity(**term: Any) -> Object:
    required = {"nodeSelectorTerms": [term]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def requirement(key: str, operator: str, *values: str) -> Object:
    return {"key": key, "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    ("pod", "fitting"),
    [
        (wanting(), ["a", "b"]),
        (wanting(nodeSelector={"disk": "ssd"}), ["a"]),
        (wanting(nodeSelector={"disk": "none"}), []),
        (wanting(affinity=affinity(matchFields=[requirement("metadata.name", "In", "b")])), ["b"]),
        (wanting(affinity=affinity(matchExpressions=[requirement("disk", "NotIn", "ssd")])), ["b"]),
        (wanting(affinity=affinity(matchExpressions=[requirement("disk", "Exists")])), ["a"]),
        (wanting(affinity=affinity(matchExpressions=[requirement("disk", "DoesNotExist")])), ["b"]),
    ],
)
def test_a_pod_fits_where_it_says(pod: Object, fitting: list[str]) -> None:
    assert [each["metadata"]["name"] for each in (node("a", disk="ssd"), node("b")) if fits(pod, each)] == fitting


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "only", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "only", "value": "us"}, True),
        ({"key": "only", "value": "them"}, False),
        ({"key": "only", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_taints_need_a_toleration(toleration: Object, tolerated: bool) -> None:
    tainted = node("a", taints=[{"key": "only", "value": "us", "effect": "NoSchedule"}])
    assert not fits(wanting(), tainted)
    assert fits(wanting(tolerations=[toleration]), tainted) is tolerated


def test_pods_are_spread() -> None:
    placed = [wanting(nodeName="a"), wanting(nodeName="a"), wanting(nodeName="b")]
    assert choose(wanting(), [node("a"), node("b")], placed) == "b"
    assert choose(wanting(nodeSelector={"x": "y"}), [node("a")], []) is None


def test_arguments_are_expanded_as_kubelets_do() -> None:
    assert expand("$(A)-$$(A)-$(B)-$A", {"A": "1"}) == "1-$(A)-$(B)-$A"


def cluster(*, config: Object | None = None, hidden: Object | None = None) -> Cluster:
    maps = {"c": {"data": config}} if config is not None else {}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in (hidden or {}).items()}
    secrets = {"s": {"data": encoded}} if hidden is not None else {}
    return Cluster(config_map=lambda _, name: maps.get(name), secret=lambda _, name: secrets.get(name))


def test_a_missing_variable_is_named() -> None:
    def read(**reference: Any) -> dict[str, str]:
        entry = {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"} | reference}}
        return environment(POD, {"env": [entry]}, cluster(config={"other": "x"}), [], {})

    with pytest.raises(NotYet, match="couldn't find key k in c"):
        read()
    with pytest.raises(NotYet, match='configmap "none" not found'):
        read(name="none")
    assert read(optional=True) == {}
    assert read(key="other") == {"A": "x"}


def test_whole_objects_become_variables() -> None:
    sources = [{"prefix": "C_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}]
    made = environment(POD, {"envFrom": sources}, cluster(config={"a": "1"}, hidden={"b": "2"}), [], {"P": "0"})
    assert made == {"P": "0", "C_a": "1", "b": "2"}


def test_variables_of_services_are_those_of_kubernetes() -> None:
    service = {
        "metadata": {"name": "my-api"},
        "spec": {"clusterIP": "10.0.0.7", "ports": [{"name": "http", "port": 80}]},
    }
    assert service_variables(service) == {
        "MY_API_SERVICE_HOST": "10.0.0.7",
        "MY_API_SERVICE_PORT": "80",
        "MY_API_SERVICE_PORT_HTTP": "80",
        "MY_API_PORT": "tcp://10.0.0.7:80",
        "MY_API_PORT_80_TCP": "tcp://10.0.0.7:80",
        "MY_API_PORT_80_TCP_PROTO": "tcp",
        "MY_API_PORT_80_TCP_PORT": "80",
        "MY_API_PORT_80_TCP_ADDR": "10.0.0.7",
    }
    assert service_variables({"metadata": {"name": "x"}, "spec": {"clusterIP": "None"}}) == {}


def test_volumes_have_the_items_and_modes_that_are_asked_for() -> None:
    held = cluster(config={"a": "1", "b": "2"}, hidden={"k": "3"})
    whole = {"name": "v", "configMap": {"name": "c"}}
    assert payload(POD, whole, held, {}) == {"a": File(b"1", 0o644), "b": File(b"2", 0o644)}
    items = [{"key": "k", "path": "deep/k", "mode": 0o400}, {"key": "none", "path": "n"}]
    some = {"name": "v", "secret": {"secretName": "s", "items": items, "optional": True}}
    assert payload(POD, some, held, {}) == {"deep/k": File(b"3", 0o400)}
    with pytest.raises(NotYet, match="non-existent config key: none"):
        payload(POD, {"name": "v", "secret": {"secretName": "s", "items": items}}, held, {})
    assert payload(POD, {"name": "v", "secret": {"secretName": "gone", "optional": True}}, held, {}) == {}


def test_projected_volumes_have_tokens_of_their_audience() -> None:
    sources = [
        {"serviceAccountToken": {"path": "token", "audience": "us", "expirationSeconds": 600}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    volume = {"name": "v", "projected": {"sources": sources, "defaultMode": 0o444}}
    assert tokens_of(volume) == [("us", 600)]
    made = payload(POD, volume, cluster(), {("us", 600): "t"})
    assert made == {"token": File(b"t", 0o444), "labels": File(b'app="x"', 0o444)}
    private = POD | {"spec": {"securityContext": {"fsGroup": 5}}}
    assert payload(private, volume, cluster(), {("us", 600): "t"})["token"].mode == 0o600
    assert owned(made, group=True)["token"].mode == 0o444
    assert owned({"x": File(b"", 0o400)}, group=True)["x"].mode == 0o440


def test_routes_lead_to_ready_endpoints_of_the_port() -> None:
    service = {
        "metadata": {"namespace": "apps", "name": "web"},
        "spec": {"clusterIP": "10.0.0.7", "ports": [{"name": "http", "port": 80}, {"name": "other", "port": 81}]},
    }
    slices = {
        "metadata": {"namespace": "apps", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [
            {"addresses": ["10.244.1.1"], "conditions": {"ready": True}},
            {"addresses": ["10.244.1.2"], "conditions": {"ready": False}},
        ],
    }
    assert routes_of([service], [slices]) == {"10.0.0.7:80": ["10.244.1.1:8080"]}
    service["metadata"] = {"namespace": "other", "name": "web"}
    assert routes_of([service], [slices]) == {}


def test_names_of_services_are_short_only_in_their_namespace() -> None:
    def service(namespace: str, made: str) -> Object:
        metadata = {"namespace": namespace, "name": "web", "creationTimestamp": made, "uid": made}
        return {"metadata": metadata, "spec": {"clusterIP": f"10.0.0.{made}"}}

    lines = hosts_file(POD, "10.244.1.1", [service("other", "2"), service("apps", "1")]).splitlines()
    assert lines[-3:] == [
        "10.244.1.1 one",
        "10.0.0.1 web.apps.svc.cluster.local web.apps.svc web.apps web",
        "10.0.0.2 web.other.svc.cluster.local web.other.svc web.other",
    ]


@dataclass
class Shown:
    state: State
    last: Terminated | None = None
    ready: bool = False
    started: bool = False
    restarts: int = 0
    spec: Object = field(default_factory=lambda: {"name": "main", "image": "i"})


def ended(code: int) -> Terminated:
    return Terminated(code=code, reason="r", message="m", started=NOW, finished=NOW)


@pytest.mark.parametrize(
    ("policy", "states", "expected"),
    [
        ("Always", [Waiting("ContainerCreating")], "Pending"),
        ("Always", [Running(NOW)], "Running"),
        ("Always", [ended(0)], "Running"),
        ("Never", [ended(0), ended(0)], "Succeeded"),
        ("Never", [ended(0), ended(1)], "Failed"),
        ("Never", [ended(0), Running(NOW)], "Running"),
        ("OnFailure", [ended(1)], "Running"),
    ],
)
def test_phases(policy: str, states: list[State], expected: str) -> None:
    assert phase({"restartPolicy": policy}, [], [Shown(state) for state in states]) == expected


def test_a_crash_loop_is_running_and_a_failed_first_step_is_not() -> None:
    assert phase({}, [], [Shown(Waiting("CrashLoopBackOff"), last=ended(1))]) == "Running"
    assert phase({"restartPolicy": "Never"}, [Shown(ended(1))], [Shown(Waiting("PodInitializing"))]) == "Failed"
    assert phase({}, [Shown(ended(1))], [Shown(Waiting("PodInitializing"))]) == "Pending"


def test_conditions_keep_their_time_and_those_of_others() -> None:
    place = Place(address="10.244.1.1", host="10.1.0.1", since=NOW)
    disruption = {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": "then"}
    pod = POD | {"status": {"conditions": [disruption]}}
    first = pod_status(pod, [], [Shown(Running(NOW))], place, NOW)
    later = NOW + timedelta(minutes=1)
    second = pod_status(POD | {"status": first}, [], [Shown(Running(NOW), ready=True)], place, later)
    before, after = ({each["type"]: each for each in status["conditions"]} for status in (first, second))
    assert before["Ready"]["status"] == "False"
    assert before["Ready"]["message"] == "containers with unready status: [main]"
    assert after["Ready"]["status"] == "True"
    assert after["Ready"]["lastTransitionTime"] == "2026-01-02T03:05:05Z"
    assert after["Initialized"] == before["Initialized"]
    assert after["DisruptionTarget"] == disruption
