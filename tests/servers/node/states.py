"""The states of a container and of its pod, and how they are told to the API server. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, assert_never

from tests.servers.node.client import Object


@dataclass(frozen=True, slots=True)
class Waiting:
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminated:
    code: int
    reason: str
    message: str
    started: datetime
    finished: datetime


State = Waiting | Running | Terminated


class Seen(Protocol):
    """What is told of a container."""

    @property
    def spec(self) -> Object: ...

    state: State
    last: Terminated | None
    restarts: int
    ready: bool
    started: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a pod is. `address` is empty until it has one."""

    address: str
    host: str
    since: datetime


def pod_status(pod: Object, inits: Sequence[Seen], containers: Sequence[Seen], place: Place, now: datetime) -> Object:
    current = phase(pod["spec"], inits, containers)
    status: Object = {
        "phase": current,
        "conditions": _conditions(pod, inits, containers, current, now),
        "containerStatuses": [_container(each) for each in containers],
        "hostIP": place.host,
        "hostIPs": [{"ip": place.host}],
        "startTime": stamp(place.since),
    }
    if inits:
        status["initContainerStatuses"] = [_container(each) for each in inits]
    if place.address:
        status |= {"podIP": place.address, "podIPs": [{"ip": place.address}]}
    return status


def phase(spec: Object, inits: Sequence[Seen], containers: Sequence[Seen]) -> str:
    again = spec.get("restartPolicy", "Always")
    if again == "Never" and any(_failed(each) for each in inits):
        return "Failed"
    if not all(_succeeded(each) for each in inits):
        return "Pending"
    states = [each.state for each in containers]
    if again != "Always" and all(isinstance(state, Terminated) for state in states):
        if all(_succeeded(each) for each in containers):
            return "Succeeded"
        if again == "Never":
            return "Failed"
    if any(isinstance(each.state, Waiting) and each.last is None for each in containers):
        return "Pending"
    return "Running"


def stamp(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _succeeded(container: Seen) -> bool:
    return isinstance(container.state, Terminated) and container.state.code == 0


def _failed(container: Seen) -> bool:
    return isinstance(container.state, Terminated) and container.state.code != 0


def _conditions(
    pod: Object, inits: Sequence[Seen], containers: Sequence[Seen], current: str, now: datetime
) -> list[Object]:
    initialized = all(_succeeded(each) for each in inits)
    unready = [each.spec["name"] for each in containers if not each.ready]
    if current in {"Succeeded", "Failed"}:
        ready = (False, "PodCompleted" if current == "Succeeded" else "PodFailed", "")
    elif unready:
        ready = (False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    else:
        ready = (True, "", "")
    ours = {
        "PodReadyToStartContainers": (True, "", ""),
        "Initialized": (initialized, "" if initialized else "ContainersNotInitialized", ""),
        "Ready": ready,
        "ContainersReady": ready,
    }
    known = {each["type"]: each for each in pod.get("status", {}).get("conditions", [])}
    others = [each for kind, each in known.items() if kind not in ours]
    return others + [_condition(kind, *told, known.get(kind), now) for kind, told in ours.items()]


def _condition(kind: str, holds: bool, reason: str, message: str, before: Object | None, now: datetime) -> Object:
    status = "True" if holds else "False"
    same = before is not None and before["status"] == status
    condition: Object = {"type": kind, "status": status}
    condition["lastTransitionTime"] = before["lastTransitionTime"] if same and before else stamp(now)
    return condition | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})


def _container(container: Seen) -> Object:
    return {
        "name": container.spec["name"],
        "image": container.spec["image"],
        "imageID": "",
        "ready": container.ready,
        "started": container.started,
        "restartCount": container.restarts,
        "state": _state(container.state),
        "lastState": _state(container.last) if container.last else {},
    }


def _state(state: State) -> Object:
    match state:
        case Waiting(reason, message):
            return {"waiting": {"reason": reason, "message": message}}
        case Running(since):
            return {"running": {"startedAt": stamp(since)}}
        case Terminated():
            told = {"exitCode": state.code, "reason": state.reason, "message": state.message}
            return {"terminated": told | {"startedAt": stamp(state.started), "finishedAt": stamp(state.finished)}}
        case _:
            assert_never(state)
