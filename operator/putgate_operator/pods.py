"""The API's pods: which are this UploadBucket's, what template each runs, and what keeps one from running."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from putgate_operator.desired import names
from putgate_operator.desired.deployment import TEMPLATE_HASH
from putgate_operator.observed import Observed, Raw, dig

_MOUNT_PATIENCE = timedelta(seconds=60)
"""How long volumes may take before it is worth a word; a slow attach takes longer than most mounts, a missing object
for ever."""

_PULL = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
_PULL |= {"SignatureValidationFailed", "ImageInspectError"}
_NOT_MADE = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What stands in the way, as a condition says it."""

    reason: str
    message: str
    user_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """`template`: the hash of the template it was made from. `leaving`: it has been told to end."""

    name: str
    uid: str
    template: str | None
    ready: bool
    leaving: bool
    started: datetime | None
    raw: Raw


def serving(observed: Observed) -> tuple[Pod, ...]:
    """Every pod that the Service may send calls to, whoever made it; those that are ending too."""
    found = (raw for raw in observed.pods if dig(raw, "metadata", "labels", names.APP_LABEL) == names.APP)
    return tuple(pod for raw in found if not has_ended(pod := _pod(raw)))


def own(observed: Observed, deployment: Raw | None) -> tuple[Pod, ...]:
    """Those that the Deployment made through its ReplicaSets, which the uids of owners prove. By name."""
    uid = dig(deployment, "metadata", "uid")
    if uid is None:
        return ()
    sets = {dig(raw, "metadata", "uid") for raw in observed.replica_sets if _controller(raw) == uid}
    found = (
        pod for pod in serving(observed) if _controller(pod.raw) in sets and not dig(pod.raw, "spec", "hostNetwork")
    )
    return tuple(sorted(found, key=lambda pod: pod.name))


def of_job(observed: Observed, job: Raw) -> tuple[Pod, ...]:
    uid = dig(job, "metadata", "uid")
    return tuple(_pod(raw) for raw in observed.pods if _controller(raw) == uid)


def has_ended(pod: Pod) -> bool:
    return dig(pod.raw, "status", "phase") in ("Succeeded", "Failed")


def container(pod: Pod) -> Raw | None:
    """The status of our own container; a mesh may have put others beside it."""
    found = dig(pod.raw, "status", "containerStatuses", default=())
    return next((each for each in found if each.get("name") in (names.API_CONTAINER, names.REMOVE_CONTAINER)), None)


def trouble(pods: Iterable[Pod], now: datetime) -> Trouble | None:
    """The first trouble of the first pod that has any; pods that are ready or leaving have none."""
    waiting = (pod for pod in pods if not pod.ready and not pod.leaving)
    return next((found for pod in waiting if (found := _trouble(pod, now)) is not None), None)


def _trouble(pod: Pod, now: datetime) -> Trouble | None:
    scheduled = _condition(pod.raw, "PodScheduled")
    if dig(scheduled, "status") == "False" and dig(scheduled, "reason") == "Unschedulable":
        said = dig(scheduled, "message", default="no node fits")
        what = "Add nodes, or change spec.api.resources or spec.api.scheduling."
        return Trouble(reason="Unschedulable", message=f"Pod {pod.name} finds no node: {_sentence(said)} {what}")
    status = container(pod)
    if (found := _container_trouble(pod.name, status)) is not None:
        return found
    waits_for_volumes = dig(status, "state", "waiting", "reason") == "ContainerCreating"
    if waits_for_volumes and pod.started is not None and now - pod.started > _MOUNT_PATIENCE:
        return Trouble(
            reason="MountFailed",
            message=f"Pod {pod.name} waits for its volumes or its network; "
            f"`kubectl describe pod {pod.name}` shows which in its events.",
        )
    return None


def _container_trouble(name: str, status: Raw | None) -> Trouble | None:
    waiting = dig(status, "state", "waiting", "reason")
    said = dig(status, "state", "waiting", "message", default="")
    if waiting in _PULL:
        what = "Check the operator's image setting, and that the nodes may pull it."
        return Trouble(
            reason="ImagePullFailed", message=f"Pod {name} cannot pull its image: {_sentence(said or waiting)} {what}"
        )
    if waiting in _NOT_MADE:
        return Trouble(reason="ContainerNotCreated", message=f"The container of pod {name} cannot be made: {said}")
    ended = dig(status, "state", "terminated") or dig(status, "lastState", "terminated")
    if ended is not None and (waiting == "CrashLoopBackOff" or dig(status, "restartCount", default=0) > 0):
        code = dig(ended, "exitCode", default="unknown")
        last = dig(ended, "message") or f"no message; see `kubectl logs --previous {name}`"
        return Trouble(reason="CrashLooping", message=f"Pod {name} ends with exit code {code}: {last}")
    return None


def _sentence(said: str) -> str:
    """What the cluster says, so that advice can follow."""
    return said if said.endswith((".", "!")) else f"{said}."


def _pod(raw: Raw) -> Pod:
    return Pod(
        name=str(dig(raw, "metadata", "name")),
        uid=str(dig(raw, "metadata", "uid")),
        template=dig(raw, "metadata", "annotations", TEMPLATE_HASH),
        ready=dig(_condition(raw, "Ready"), "status") == "True",
        leaving=dig(raw, "metadata", "deletionTimestamp") is not None,
        started=_time(dig(raw, "status", "startTime")),
        raw=raw,
    )


def _controller(raw: Raw) -> str | None:
    references = dig(raw, "metadata", "ownerReferences", default=())
    return next((reference.get("uid") for reference in references if reference.get("controller")), None)


def _condition(raw: Raw, kind: str) -> Raw | None:
    conditions = dig(raw, "status", "conditions", default=())
    return next((condition for condition in conditions if condition.get("type") == kind), None)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
