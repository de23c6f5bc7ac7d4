"""Which node a pod goes to: a pure decision over what was heard.

It knows node selectors, required node affinity (DaemonSet pods have theirs by it), cordons and taints; it does not
weigh resources, topology or affinity between pods, and gives a pod to the node that has the fewest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.servers.node.client import Object


def choose(pod: Object, nodes: Iterable[Object], pods: Iterable[Object]) -> str | None:
    """A node's name, or None where none fits."""
    load = Counter(each["spec"].get("nodeName") for each in pods)
    fitting = [node["metadata"]["name"] for node in nodes if fits(pod, node)]
    return min(fitting, key=lambda name: (load[name], name), default=None)


def fits(pod: Object, node: Object) -> bool:
    spec = pod["spec"]
    labels = node["metadata"].get("labels", {})
    selected = all(labels.get(name) == value for name, value in spec.get("nodeSelector", {}).items())
    affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = required["nodeSelectorTerms"] if required else None
    return selected and _tolerated(spec, node) and (terms is None or any(_matches(term, node) for term in terms))


def _matches(term: Object, node: Object) -> bool:
    labels = node["metadata"].get("labels", {})
    fields = {"metadata.name": node["metadata"]["name"]}
    return all(_holds(each, labels) for each in term.get("matchExpressions", [])) and all(
        _holds(each, fields) for each in term.get("matchFields", [])
    )


def _holds(requirement: Object, values: dict[str, str]) -> bool:
    value = values.get(requirement["key"])
    match requirement["operator"]:
        case "In":
            return value in requirement["values"]
        case "NotIn":
            return value not in requirement["values"]
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case other:
            raise ValueError(f"operator {other!r} in a node selector")


def _tolerated(spec: Object, node: Object) -> bool:
    taints = [taint for taint in node["spec"].get("taints", []) if taint["effect"] != "PreferNoSchedule"]
    return all(any(_tolerates(each, taint) for each in spec.get("tolerations", [])) for taint in taints)


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in {None, "", taint["effect"]}:
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in {None, "", taint["key"]}
    return bool(toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""))
