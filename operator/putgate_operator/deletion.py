"""What becomes of a bucket when its UploadBucket is deleted.

`Retain` touches nothing and holds nothing up. `Delete` keeps the UploadBucket by a finalizer until a Job has removed
the bucket, which it does only for one that this UploadBucket created and that is empty. The Job starts when no API pod
is left that could still write. Whatever fails is tried again; setting `Retain` ends it at any time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import ValidationError

from putgate_operator import pods, status
from putgate_operator.desired import names
from putgate_operator.desired.manifest import OWNER_UID
from putgate_operator.desired.outcome import Desired, Event
from putgate_operator.desired.ownership import Owner, made_for, owner
from putgate_operator.desired.removal_job import removal_job
from putgate_operator.desired.settings import Keys, settings_file
from putgate_operator.key_state import KeyState
from putgate_operator.keys import ROTATE, key_id
from putgate_operator.kinds import CONFIG_MAP, DEPLOYMENT, GROUP, JOB, NETWORK_POLICY, SERVICE_ACCOUNT
from putgate_operator.observed import PAUSED, ChildKey, Manifest, Observed, Raw, dig
from putgate_operator.pods import Trouble

FINALIZER = f"{GROUP}/bucket"

_AGAIN = timedelta(seconds=60)
_AGAIN_USER = timedelta(minutes=5)
"""Until a failed removal is tried again: what may pass by itself, and what waits for somebody. Each try is a pod, so
shorter is a burden to the cluster; longer keeps people waiting who have emptied their bucket."""

_USER_ERRORS = {"NotEmpty", "Adopted", "NotOurs", "AccessDenied", "CredentialsRejected", "WrongRegion", "TLSUntrusted"}
_WATCHING = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a removal that has ended says. `ended`: when."""

    result: str
    message: str
    ended: datetime | None


def wanted_finalizer(observed: Observed) -> Literal["add", "remove"] | None:
    """Of an UploadBucket that is not being deleted."""
    has = FINALIZER in observed.bucket.finalizers
    if observed.bucket.spec.deletion_policy == "Delete":
        return None if has else "add"
    return "remove" if has else None


def stale_removals(observed: Observed) -> tuple[ChildKey, ...]:
    """Removal objects of this name that the operator made for another UploadBucket, which is gone: its Job would take
    the bucket away from this one.
    """
    return tuple(key for key in _removals(observed) if not made_for(observed.bucket, observed.children[key]))


def remove(observed: Observed) -> Desired:
    """For an UploadBucket that is being deleted. Nothing but the removal is applied for it any more."""
    bucket = observed.bucket
    if FINALIZER not in bucket.finalizers:
        return Desired(status=dict(bucket.status))
    if bucket.spec.deletion_policy != "Delete":
        return _release(observed)
    if observed.namespace.terminating:
        return _release(observed, abandoned="NamespaceTerminating")
    if observed.paused:
        return _shown(
            observed,
            status.at_work("Paused", f"Deletion waits: annotation {PAUSED} stops all writes; remove it to go on."),
        )
    if stale := stale_removals(observed):
        return _working(observed, "RemovingBucket", "An older removal is being cleared away.", delete=stale)
    deployment = observed.child(DEPLOYMENT.kind, names.api(bucket))
    if owner(bucket, deployment) is Owner.OURS or made_for(bucket, deployment):
        going = dig(deployment, "metadata", "deletionTimestamp") is not None
        key = ChildKey(kind=DEPLOYMENT.kind, name=names.api(bucket))
        return _working(observed, "WaitingForPods", "The API is being stopped.", delete=() if going else (key,))
    if any(made_for(bucket, raw) for raw in observed.replica_sets):
        return _working(observed, "WaitingForPods", "Waiting for the garbage collector: a ReplicaSet could start pods.")
    if left := pods.serving(observed):
        text = f"Waiting for pod {left[0].name} to end; the bucket is removed when no API pod is left."
        return _working(observed, "WaitingForPods", text)
    return _with_job(observed, observed.child(JOB.kind, names.removal(bucket)))


def _with_job(observed: Observed, job: Raw | None) -> Desired:
    if job is None or not made_for(observed.bucket, job):
        return _begin(observed)
    outcome = _outcome(observed, job)
    if outcome is None:
        trouble = pods.trouble(pods.of_job(observed, job), observed.now)
        if trouble is not None:
            return _failed(observed, trouble, None)
        return _working(observed, "RemovingBucket", f"Job {names.removal(observed.bucket)} is removing the bucket.")
    match outcome.result:
        case "Removed":
            told = Event(type="Normal", reason="BucketRemoved", message=outcome.message or "The bucket is removed.")
            return _release(observed, event=told)
        case "CredentialsMissing":
            text = f"The bucket is kept: {outcome.message} Remove it by hand if it is not wanted."
            told = Event(type="Warning", reason="CredentialsMissing", message=text)
            return _release(observed, event=told, abandoned="CredentialsMissing")
        case _:
            return _retry(observed, outcome)


def _begin(observed: Observed) -> Desired:
    bucket = observed.bucket
    state = KeyState.from_status(bucket.status)
    first = key_id(bucket.uid, bucket.annotations.get(ROTATE, ""))
    keys = state.keys if state else Keys(signing=first, accepted=(first,))
    try:
        file = settings_file(bucket, observed.namespace, keys, observed.settings)
    except ValidationError as error:
        return _failed(observed, status.spec_trouble(error), None)
    made = removal_job(bucket, observed.settings, file)
    for manifest in made:
        key = ChildKey(kind=manifest["kind"], name=manifest["metadata"]["name"])
        if key in observed.children and not made_for(bucket, observed.children[key]):
            text = f"{key} exists and was not made for this removal. Delete it, or set deletionPolicy: Retain."
            return _failed(observed, Trouble(reason="NameConflict", message=text, user_error=True), None)
    return _working(observed, "RemovingBucket", "The bucket is being removed.", apply=tuple(_missing(observed, made)))


def _missing(observed: Observed, made: tuple[Manifest, ...]) -> list[Manifest]:
    """A Job cannot be changed, and what it runs with must not be changed under it."""
    return [each for each in made if observed.child(each["kind"], each["metadata"]["name"]) is None]


def _outcome(observed: Observed, job: Raw) -> Outcome | None:
    """None while it is under way, or has ended in a way that is not seen yet."""
    conditions = dig(job, "status", "conditions", default=())
    ended = next((each for each in conditions if each.get("type") in ("Complete", "Failed")), None)
    if ended is None or ended.get("status") != "True":
        return None
    when = dig(ended, "lastTransitionTime")
    at = None if when is None else datetime.fromisoformat(when)
    tried = pods.of_job(observed, job)
    said = [dig(pods.container(pod), "state", "terminated") for pod in tried]
    if ended["type"] == "Complete":
        return Outcome(result="Removed", message=_said(said)[1], ended=at)
    if any(each is None and not pods.has_ended(pod) for each, pod in zip(said, tried, strict=True)):
        return None
    result, message = _said(said)
    why = dig(ended, "message", default="no message")
    return Outcome(result=result or "RemovalFailed", message=message or f"the Job failed: {why}", ended=at)


def _said(ended: list[Raw | None]) -> tuple[str, str]:
    """Result and message from the last line of a termination message; empty where there is none of ours."""
    text = next((str(dig(each, "message", default="")) for each in ended if each is not None), "")
    try:
        said = json.loads(text.strip().rpartition("\n")[2] or "{}")
    except ValueError:
        return "", text.strip()
    return (str(said.get("result", "")), str(said.get("message", ""))) if isinstance(said, dict) else ("", "")


def _retry(observed: Observed, outcome: Outcome) -> Desired:
    user_error = outcome.result in _USER_ERRORS
    trouble = Trouble(
        reason=outcome.result if outcome.result.isidentifier() else "RemovalFailed",
        message=f"The bucket is not removed: {outcome.message} It is tried again; deletionPolicy: Retain keeps it.",
        user_error=user_error,
    )
    due = (outcome.ended or observed.now) + (_AGAIN_USER if user_error else _AGAIN)
    if due > observed.now:
        return _failed(observed, trouble, (due - observed.now).total_seconds())
    desired = _failed(observed, trouble, 1.0)
    return Desired(
        delete=_removals(observed),
        status=desired.status,
        events=desired.events,
        requeue_after=desired.requeue_after,
    )


def _release(observed: Observed, *, event: Event | None = None, abandoned: str | None = None) -> Desired:
    return Desired(
        delete=_removals(observed),
        status=dict(observed.bucket.status),
        events=() if event is None else (event,),
        finalizer="remove",
        abandoned=abandoned,
    )


def _removals(observed: Observed) -> tuple[ChildKey, ...]:
    """The removal Job and what it runs with, as far as the operator made them, for whomever."""
    name = names.removal(observed.bucket)
    keys = (ChildKey(kind=kind.kind, name=name) for kind in (JOB, CONFIG_MAP, SERVICE_ACCOUNT, NETWORK_POLICY))
    return tuple(key for key in keys if dig(observed.children.get(key), "metadata", "annotations", OWNER_UID))


def _working(
    observed: Observed,
    reason: str,
    message: str,
    *,
    apply: tuple[Manifest, ...] = (),
    delete: tuple[ChildKey, ...] = (),
) -> Desired:
    return _shown(observed, status.at_work(reason, message), apply=apply, delete=delete)


def _failed(observed: Observed, trouble: Trouble, requeue_after: float | None) -> Desired:
    return _shown(observed, status.in_trouble(trouble), requeue_after=requeue_after)


def _shown(
    observed: Observed,
    work: list[status.Condition],
    *,
    apply: tuple[Manifest, ...] = (),
    delete: tuple[ChildKey, ...] = (),
    requeue_after: float | None = None,
) -> Desired:
    """`Ready` says that it goes; what else was known stays as it was."""
    bucket = observed.bucket
    why = next(each for each in work if each.status == "True")
    ready = status.Condition(type="Ready", status="False", reason=why.reason, message=why.message)
    known = {key: value for key, value in bucket.status.items() if key != "conditions"}
    after = {
        **known,
        "observedGeneration": bucket.generation,
        "conditions": status.amended(bucket, [ready, *work], observed.now),
    }
    return Desired(
        apply=apply,
        delete=delete,
        status=after,
        events=status.events(bucket.status, after),
        requeue_after=_WATCHING if requeue_after is None else requeue_after,
    )
