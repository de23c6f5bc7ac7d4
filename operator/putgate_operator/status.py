"""What is seen, as a status: conditions that say what is wrong and what to do, and what clients need to know.

`Ready` follows the Deployment; why it is not ready is told first by its pods, then by their reports. What waits for
somebody to change something is `Stalled`; what the cluster, the store or time may mend is `Reconciling`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from pydantic import ValidationError

from putgate_operator.desired import names
from putgate_operator.desired.deployment import OPERATOR_VERSION, SETTINGS_HASH
from putgate_operator.desired.manifest import without_empty
from putgate_operator.desired.outcome import Event
from putgate_operator.key_state import KeyState, time_text
from putgate_operator.observed import Raw, dig
from putgate_operator.pods import Trouble
from putgate_operator.reports import DETAILS, Judgement
from putgate_operator.resources import UploadBucket

Truth = Literal["True", "False", "Unknown"]

PROGRESSING = "Progressing"
_CALM = {PROGRESSING, "RolloutQueued", "Paused", "RemovingBucket", "WaitingForPods", "PredecessorLeaving"}
"""Reasons for being at work that are no trouble."""

_NOT = {"Reconciling": "Nothing is under way.", "Stalled": "Nothing waits for somebody to change something."}
"""What a condition says that does not hold."""

_MAX_MESSAGE = 1024


class Shown(Protocol):
    """What a status is written about."""

    @property
    def generation(self) -> int: ...

    @property
    def status(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    type: str
    status: Truth
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What conditions are made of. `trouble`: what is wrong, worst first. `progress`: what is still under way.
    `live`: the Deployment, if it is ours.
    """

    ready: bool
    trouble: Trouble | None
    progress: Trouble | None
    live: Raw | None
    details: Judgement


def conditions(picture: Picture) -> list[Condition]:
    return [_ready(picture), *_work(picture.trouble, picture.progress), *_details(picture.details), _available(picture)]


def beginning() -> list[Condition]:
    """Before anything is known, so that nobody takes an absent condition for a good one."""
    types = ("Ready", "Reconciling", "Stalled", *DETAILS, "ApiAvailable")
    text = "The operator has begun."
    return [Condition(type=each, status="Unknown", reason=PROGRESSING, message=text) for each in types]


def at_work(reason: str, message: str) -> list[Condition]:
    return list(_work(None, Trouble(reason=reason, message=message)))


def in_trouble(trouble: Trouble) -> list[Condition]:
    return list(_work(trouble, None))


def spec_trouble(error: ValidationError) -> Trouble:
    """The spec makes a file that `putgate-api` would refuse. Without the values: nobody meant to show them."""
    lines = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_input=False)]
    return Trouble(reason="SpecInvalid", message=f"Correct the spec: {'; '.join(lines)}", user_error=True)


def _ready(picture: Picture) -> Condition:
    if picture.ready:
        return Condition(type="Ready", status="True", reason="Available", message=_replicas(picture.live))
    why = picture.trouble or picture.progress or Trouble(reason=PROGRESSING, message=_replicas(picture.live))
    return Condition(type="Ready", status="False", reason=why.reason, message=why.message)


def _work(trouble: Trouble | None, progress: Trouble | None) -> Iterable[Condition]:
    stalled = trouble if trouble is not None and trouble.user_error else None
    busy = None if stalled else trouble or progress
    for kind, why in (("Reconciling", busy), ("Stalled", stalled)):
        if why is None:
            yield Condition(type=kind, status="False", reason=f"Not{kind}", message=_NOT[kind])
        else:
            yield Condition(type=kind, status="True", reason=why.reason, message=why.message)


def _details(judged: Judgement) -> Iterable[Condition]:
    for kind in DETAILS:
        found = judged.conditions.get(kind)
        if found is not None and (found.status == "False" or not judged.silent):
            yield Condition(type=kind, status=found.status, reason=found.reason, message=found.message)
        elif judged.silent:
            pod, why = judged.silent[0]
            text = f"Pod {pod} is ready but gives no report: {why}. Check that the operator reaches port "
            text += f"{names.ADMIN_PORT} of this namespace's pods."
            yield Condition(type=kind, status="Unknown", reason="ReportUnreachable", message=text)
        else:
            text = "No pod with the wanted settings has reported on this yet."
            yield Condition(type=kind, status="Unknown", reason=PROGRESSING, message=text)


def _available(picture: Picture) -> Condition:
    if picture.live is None:
        return Condition(type="ApiAvailable", status="False", reason="NoDeployment", message="Nothing runs yet.")
    serves = dig(picture.live, "status", "availableReplicas", default=0) > 0
    reason = "Serving" if serves else "NoReplicaAvailable"
    text = _replicas(picture.live)
    return Condition(type="ApiAvailable", status="True" if serves else "False", reason=reason, message=text)


def _replicas(live: Raw | None) -> str:
    available = dig(live, "status", "availableReplicas", default=0)
    return f"{available} of {dig(live, 'spec', 'replicas', default=0)} replicas are available."


def status(
    bucket: UploadBucket, found: Iterable[Condition], now: datetime, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """The whole status. `fields`: all of it but conditions."""
    return {
        "observedGeneration": bucket.generation,
        **fields,
        "conditions": dated(bucket, found, now),
    }


def dated(bucket: Shown, found: Iterable[Condition], now: datetime) -> list[dict[str, Any]]:
    """Conditions as they are written: the time is that of the last change of a status, not of a message."""
    known = {each.get("type"): each for each in bucket.status.get("conditions") or ()}
    made = []
    for condition in found:
        before = known.get(condition.type, {})
        same = before.get("status") == condition.status and before.get("lastTransitionTime")
        made.append(
            {
                "type": condition.type,
                "status": condition.status,
                "observedGeneration": bucket.generation,
                "lastTransitionTime": before["lastTransitionTime"] if same else time_text(now),
                "reason": condition.reason,
                "message": condition.message[:_MAX_MESSAGE],
            }
        )
    return made


def amended(bucket: Shown, changes: Iterable[Condition], now: datetime) -> list[dict[str, Any]]:
    """The conditions that are shown, with these instead of theirs of the same type."""
    shown = [dict(each) for each in bucket.status.get("conditions") or dated(bucket, beginning(), now)]
    changed = {each["type"]: each for each in dated(bucket, changes, now)}
    return [changed.pop(each["type"], each) for each in shown] + list(changed.values())


def hindered(bucket: UploadBucket, after: Mapping[str, Any], now: datetime, why: Trouble) -> dict[str, Any]:
    """A status, but for what the cluster did not let happen. What waits for the object's owner comes first."""
    shown = {each["type"]: each for each in after.get("conditions") or dated(bucket, beginning(), now)}
    if not why.user_error and shown["Stalled"]["status"] == "True":
        return dict(after)
    changes = in_trouble(why)
    if shown["Ready"]["status"] != "True":
        changes.append(Condition(type="Ready", status="False", reason=why.reason, message=why.message))
    changed = {each["type"]: each for each in dated(bucket, changes, now)}
    return {**after, "conditions": [changed.get(kind, each) for kind, each in shown.items()]}


def fields(bucket: UploadBucket, keys: KeyState | None, live: Raw | None, judged: Judgement) -> dict[str, Any]:
    """All of the status but conditions. What only reports tell stays as it was while there is none."""
    return without_empty(
        {
            "url": names.url(bucket),
            "audience": names.audience(bucket),
            "clientConfigMapName": names.client_config(bucket),
            **_told(bucket, judged),
            "uploadKeys": _keys(keys),
            "api": _api(bucket, live),
        }
    )


def _told(bucket: UploadBucket, judged: Judgement) -> dict[str, Any]:
    told = {key: bucket.status.get(key) for key in ("bucket", "integrity", "capabilities", "limits")}
    if (report := judged.example) is None:
        return told
    told |= {"capabilities": dict(report.capabilities), "limits": dict(report.limits)}
    if (claimed := report.bucket) is not None:
        told["bucket"] = {"created": claimed.created, "claimID": claimed.claim_id}
    if (seen := report.integrity) is not None:
        told["integrity"] = {"tier": seen.tier, "probedAt": seen.probed_at, "findings": list(seen.findings)}
    return told


def _keys(keys: KeyState | None) -> dict[str, Any] | None:
    if keys is None:
        return None
    shown = {"active": keys.signing, "accepted": list(keys.accepted), "phase": str(keys.phase)}
    return without_empty({**shown, "lastRotation": time_text(keys.rotated)})


def _api(bucket: UploadBucket, live: Raw | None) -> dict[str, Any]:
    """Also what the scale subresource shows: an autoscaler needs `replicas` and `selector` even when nothing runs."""
    selector = ",".join(f"{key}={value}" for key, value in sorted(names.selector(bucket).items()))
    return {
        "replicas": dig(live, "status", "replicas", default=0),
        "readyReplicas": dig(live, "status", "readyReplicas", default=0),
        "selector": selector,
        **without_empty(
            {
                "version": dig(live, "metadata", "annotations", OPERATOR_VERSION),
                "settingsHash": dig(live, "metadata", "annotations", SETTINGS_HASH),
            }
        ),
    }


def events(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Event, ...]:
    """What has changed for people: one event for each reason that is new."""
    known = {each["type"]: each for each in before.get("conditions") or ()}
    made: dict[str, Event] = {}
    for condition in after["conditions"]:
        old = known.get(condition["type"], {})
        if (old.get("status"), old.get("reason")) == (condition["status"], condition["reason"]):
            continue
        if (event := _event(condition)) is not None:
            made.setdefault(event.reason, event)
    return tuple(made.values())


def _event(condition: Mapping[str, Any]) -> Event | None:
    kind, truth, reason = condition["type"], condition["status"], condition["reason"]
    message = condition["message"]
    if kind == "Ready":
        return Event(type="Normal", reason="Ready", message=message) if truth == "True" else None
    if kind == "Reconciling" and truth == "True":
        if reason == "Paused":
            return Event(type="Normal", reason=reason, message=message)
        return None if reason in _CALM else Event(type="Warning", reason=reason, message=message)
    bad = truth == "True" if kind == "Stalled" else truth == "False" and kind in DETAILS
    return Event(type="Warning", reason=reason, message=message) if bad else None
