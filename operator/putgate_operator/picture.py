"""How an UploadBucket is doing: what is wrong, worst and nearest to its cause first, and what is still under way."""

from __future__ import annotations

from collections.abc import Iterator

from putgate_operator import pods, reports, rollout
from putgate_operator.desired.deployment import SETTINGS_HASH, TEMPLATE_HASH
from putgate_operator.desired.ownership import Owner, conflict_message
from putgate_operator.observed import Observed, Raw, dig
from putgate_operator.plan import Plan, annotated
from putgate_operator.pods import Trouble
from putgate_operator.reports import Judgement
from putgate_operator.status import PROGRESSING, Picture


def picture(observed: Observed, wanted: Plan) -> Picture:
    """While the Deployment waits for a slot, the template that it has is the one to judge by."""
    live, queued = wanted.live, not wanted.verdict.write
    template = annotated(live, TEMPLATE_HASH) if queued else wanted.template
    settings_hash = annotated(live, SETTINGS_HASH) if queued else wanted.settings_hash
    current = tuple(pod for pod in wanted.pods if pod.template == template)
    judged = reports.judge(observed, current, settings_hash)
    deployed = live is not None and _shown_template(live) == template
    return Picture(
        ready=deployed and not wanted.conflicts and rollout.replaced(live, wanted.pods, template),
        trouble=_first(_troubles(observed, wanted, current, judged)),
        progress=_first(_progress(observed, wanted, deployed=deployed)),
        live=live,
        details=judged,
    )


def _first(found: Iterator[Trouble]) -> Trouble | None:
    return next(found, None)


def _troubles(observed: Observed, wanted: Plan, current: tuple[pods.Pod, ...], judged: Judgement) -> Iterator[Trouble]:
    for key, whose in wanted.conflicts.items():
        if whose is Owner.FOREIGN:
            yield Trouble(reason="NameConflict", message=conflict_message(key, whose), user_error=True)
    if (found := pods.trouble(current, observed.now)) is not None:
        yield found
    if (told := judged.trouble) is not None:
        yield told
    if (refused := _condition(wanted.live, "ReplicaFailure")) is not None:
        said = dig(refused, "message", default="no message")
        yield Trouble(reason="PodsRefused", message=f"The cluster does not let pods be made: {said}")
    if rollout.past_deadline(wanted.live):
        text = "The rollout does not get on; `kubectl describe` the Deployment and its pods to see why."
        yield Trouble(reason="ProgressDeadlineExceeded", message=text)


def _progress(observed: Observed, wanted: Plan, *, deployed: bool) -> Iterator[Trouble]:
    for key, whose in wanted.conflicts.items():
        if whose is Owner.PREDECESSOR:
            yield Trouble(reason="PredecessorLeaving", message=conflict_message(key, whose))
    if not wanted.verdict.write:
        slots = observed.settings.max_concurrent_rollouts
        text = f"The operator's upgrade rolls {slots} UploadBuckets at a time; this one waits for its turn."
        yield Trouble(reason="RolloutQueued", message=text)
    live, replicas = wanted.live, observed.bucket.spec.api.replicas
    if not deployed or dig(live, "spec", "replicas") != replicas or not rollout.settled(live):
        available = dig(live, "status", "availableReplicas", default=0)
        text = f"Waiting for the API's pods: {available} of {replicas} replicas are available."
        yield Trouble(reason=PROGRESSING, message=text)


def _shown_template(live: Raw) -> str | None:
    found = dig(live, "spec", "template", "metadata", "annotations", TEMPLATE_HASH)
    return None if found is None else str(found)


def _condition(live: Raw | None, kind: str) -> Raw | None:
    conditions = dig(live, "status", "conditions", default=())
    return next((each for each in conditions if each.get("type") == kind and each.get("status") == "True"), None)
