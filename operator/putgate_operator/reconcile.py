"""Observed → Desired: the operator's one decision, pure. It imports no cluster, no clock and no randomness."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from putgate_operator import deletion, status
from putgate_operator.desired import names
from putgate_operator.desired.drift import unchanged
from putgate_operator.desired.key_secret import key_secret
from putgate_operator.desired.outcome import Desired, Event, KeySecret
from putgate_operator.key_state import Phase
from putgate_operator.kinds import SECRET
from putgate_operator.observed import PAUSED, ChildKey, Manifest, Observed, dig
from putgate_operator.picture import picture
from putgate_operator.plan import Plan, key_of, plan
from putgate_operator.pruning import obsolete

__all__ = ["Desired", "Event", "KeySecret", "reconcile"]

_FIRST = 1.0
_QUEUED = 5.0
_PATIENCE = 30.0
"""Seconds until the next look where only time may change what is seen: after the first status, while waiting for a
slot, and while a pod has not run long enough to be judged. All else comes as an event."""


def reconcile(observed: Observed) -> Desired:
    """What is to be done about one UploadBucket now. Doing it and asking again leads to nothing more to do."""
    if observed.bucket.deleting:
        return deletion.remove(observed)
    if observed.namespace.terminating:
        # Nothing can be made there any more; the UploadBucket goes in its turn.
        return Desired(status=dict(observed.bucket.status))
    if observed.paused:
        return _paused(observed)
    try:
        return _decided(observed, plan(observed))
    except ValidationError as error:
        return _refused(observed, error)


def _decided(observed: Observed, wanted: Plan) -> Desired:
    bucket, keys = observed.bucket, wanted.keys
    create = keys.create if wanted.deploys else ()
    gone = keys.delete if wanted.deploys else ()
    after = _status(observed, wanted)
    told = keys.events if wanted.deploys else ()
    secrets = (ChildKey(kind=SECRET.kind, name=names.key_secret(bucket, key)) for key in gone)
    pruned = obsolete(observed, wanted)
    return Desired(
        create_secrets=tuple(key_secret(bucket, key) for key in create),
        delete=(*pruned, *secrets),
        apply=tuple(each for each in _changed(observed, wanted) if key_of(each) not in pruned),
        status=after,
        events=(*told, *status.events(bucket.status, after)),
        requeue_after=_again(observed, wanted, after),
        finalizer=deletion.wanted_finalizer(observed),
    )


def _changed(observed: Observed, wanted: Plan) -> Iterator[Manifest]:
    """What differs from what is there, each bound to exactly the object that was looked at."""
    for manifest in wanted.writable():
        live = observed.children.get(key_of(manifest))
        if live is None:
            yield manifest
        elif not unchanged(live, manifest):
            yield {**manifest, "metadata": {**manifest["metadata"], "uid": dig(live, "metadata", "uid")}}


def _status(observed: Observed, wanted: Plan) -> dict[str, object]:
    bucket = observed.bucket
    seen = picture(observed, wanted)
    found = status.conditions(seen) if bucket.status.get("conditions") else status.beginning()
    keys = wanted.keys.state if wanted.deploys else wanted.keys.recorded
    shown = status.fields(bucket, keys, wanted.live, seen.details)
    if wanted.unreachable:
        shown = {key: value for key, value in shown.items() if key not in ("url", "clientConfigMapName")}
    return status.status(bucket, found, observed.now, shown)


def _again(observed: Observed, wanted: Plan, after: dict[str, object]) -> float | None:
    waits = []
    if not observed.bucket.status.get("conditions"):
        waits.append(_FIRST)
    if not wanted.verdict.write:
        waits.append(_QUEUED)
    if any(each["status"] == "True" for each in _conditions(after, "Reconciling", "Stalled")):
        waits.append(_PATIENCE)
    state = wanted.keys.state
    if state.phase is Phase.RETIRING and state.until is not None:
        waits.append(max(_FIRST, (state.until - observed.now).total_seconds()))
    return min(waits, default=None)


def _conditions(shown: dict[str, object], *kinds: str) -> list[dict[str, str]]:
    return [each for each in dig(shown, "conditions", default=()) if each["type"] in kinds]


def _paused(observed: Observed) -> Desired:
    """Nothing is written but that it is so; the rest of the status stays as it was, and may be out of date."""
    bucket = observed.bucket
    text = f"Annotation {PAUSED} stops all writes; remove it to go on."
    shown = status.amended(bucket, status.at_work("Paused", text)[:1], observed.now)
    after = {**bucket.status, "conditions": shown}
    return Desired(status=after, events=status.events(bucket.status, after))


def _refused(observed: Observed, error: ValidationError) -> Desired:
    """The spec makes a file that `putgate-api` would refuse: what runs goes on as it is."""
    bucket = observed.bucket
    trouble = status.spec_trouble(error)
    ready = status.Condition(type="Ready", status="False", reason=trouble.reason, message=trouble.message)
    known = {key: value for key, value in bucket.status.items() if key != "conditions"}
    shown = status.amended(bucket, [ready, *status.in_trouble(trouble)], observed.now)
    after = {**known, "observedGeneration": bucket.generation, "conditions": shown}
    return Desired(
        status=after,
        events=status.events(bucket.status, after),
        finalizer=deletion.wanted_finalizer(observed),
    )
