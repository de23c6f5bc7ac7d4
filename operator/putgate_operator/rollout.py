"""When a Deployment may roll: changes by an object's owner at once, the operator's own upgrades a few at a time.

Who caused a changed template is told by what the Deployment was last written for. Where the UploadBucket's generation
and the state of its upload keys are still those, only the operator can have changed: its image, or its templates.
Slots are derived from live Deployments, so no restart or change of leader forgets or invents one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from putgate_operator.desired.deployment import ROLLOUT, TEMPLATE_HASH
from putgate_operator.desired.manifest import GENERATION
from putgate_operator.observed import Raw, dig
from putgate_operator.pods import Pod


class Cause(StrEnum):
    OWNER = "Owner"
    OPERATOR = "Operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`write`: the Deployment may be written now; otherwise it waits for a slot. `cause`: of its last new template."""

    write: bool
    cause: Cause
    rolls: bool


def judge(live: Raw | None, *, template: str, generation: int, keys_moved: bool, rolling: int, slots: int) -> Verdict:
    """`template`: the hash of the wanted one. `keys_moved`: a step of a key rotation is to be written with it.
    `rolling`: slots that others hold, of `slots`.
    """
    if live is None:
        return Verdict(write=True, cause=Cause.OWNER, rolls=False)
    if _annotation(live, TEMPLATE_HASH) == template:
        known = _annotation(live, ROLLOUT)
        return Verdict(write=True, cause=Cause.OPERATOR if known == Cause.OPERATOR else Cause.OWNER, rolls=False)
    if keys_moved or _annotation(live, GENERATION) != str(generation):
        return Verdict(write=True, cause=Cause.OWNER, rolls=True)
    return Verdict(write=rolling < slots, cause=Cause.OPERATOR, rolls=True)


def holds_slot(deployment: Raw, bucket: Raw | None = None) -> bool:
    """Whether an upgrade is under way here that others must wait for. What is stuck holds nobody up: `bucket`, the
    UploadBucket, being Stalled, or the Deployment past its progress deadline.
    """
    if _annotation(deployment, ROLLOUT) != Cause.OPERATOR or settled(deployment) or past_deadline(deployment):
        return False
    conditions = dig(bucket, "status", "conditions", default=())
    return not any(each.get("type") == "Stalled" and each.get("status") == "True" for each in conditions)


def settled(live: Raw | None) -> bool:
    """Whether all replicas are of the live template, and available."""
    wanted = dig(live, "spec", "replicas", default=1)
    counts = (dig(live, "status", field, default=0) for field in ("replicas", "updatedReplicas", "availableReplicas"))
    return seen_by_controller(live) and all(count == wanted for count in counts)


def replaced(live: Raw | None, pods: tuple[Pod, ...], template: str | None) -> bool:
    """Whether no replica of an older template is left, and some of `template`, the live one, are available.

    A Deployment that was just written has no status of its own yet. Where its pods all run the template already, as
    after a change of annotations, there is nothing to wait for.
    """
    if not seen_by_controller(live):
        staying = [pod for pod in pods if not pod.leaving]
        return any(pod.ready for pod in staying) and all(pod.template == template for pod in staying)
    total, updated = (dig(live, "status", field, default=0) for field in ("replicas", "updatedReplicas"))
    return bool(total == updated and dig(live, "status", "availableReplicas", default=0) > 0)


def everywhere(live: Raw | None, pods: tuple[Pod, ...]) -> bool:
    """Whether every pod that can take a call, even one that is ending, runs the template that was last written, and
    is ready. Stricter than `settled`: a Deployment does not count pods that are ending.
    """
    written = _annotation(live, TEMPLATE_HASH)
    shown = dig(live, "spec", "template", "metadata", "annotations", TEMPLATE_HASH)
    if written is None or written != shown or not settled(live):
        return False
    staying = [pod for pod in pods if not pod.leaving]
    return (
        len(staying) == dig(live, "spec", "replicas", default=1)
        and all(pod.ready for pod in staying)
        and all(pod.template == written for pod in pods)
    )


def past_deadline(live: Raw | None) -> bool:
    conditions = dig(live, "status", "conditions", default=())
    progressing = next((each for each in conditions if each.get("type") == "Progressing"), None)
    return seen_by_controller(live) and dig(progressing, "reason") == "ProgressDeadlineExceeded"


def seen_by_controller(live: Raw | None) -> bool:
    generation = dig(live, "metadata", "generation", default=0)
    return live is not None and bool(dig(live, "status", "observedGeneration", default=-1) >= generation)


def _annotation(live: Raw | None, key: str) -> str | None:
    found = dig(live, "metadata", "annotations", key)
    return None if found is None else str(found)
