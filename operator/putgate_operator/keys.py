"""The upload keys of one UploadBucket: which key signs, which are accepted, and the steps of changing them.

    Stable ──asked──▶ Accepting ──everywhere──▶ Signing ──everywhere──▶ Retiring ──lifetime over──▶ Stable
    (A)               (A signs, B too is        (B signs, A is          (until the last upload       (B)
                       accepted)                 accepted)               begun with A has ended)

A step is written to the Deployment in one write with the template that it is about, and the next one is taken only
when no pod of an older template is left; pods are ready only with all accepted keys loaded. So a key never signs that
some pod does not accept. A lost key is the exception: what it signed is lost with it, so another signs at once.

The id of a key comes from what asked for it, so repeating a step makes the same Secret, and a lost key never returns
under its id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from putgate_operator.desired.outcome import Event
from putgate_operator.key_state import ORDER, KeyState, Phase, time_text
from putgate_operator.kinds import GROUP

ROTATE = f"{GROUP}/rotate-keys"
"""The annotation of an UploadBucket that asks for a rotation, by a value it did not have before."""

PATIENCE = timedelta(seconds=120)
"""How long a pod may run without a key before the key counts as lost. The kubelet brings a Secret that exists within
seconds at a start, and within two minutes at worst; shorter would take a slow node for a loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`recorded`: the state that the live Deployment shows, None where it shows none. `state`: what it shall show.
    `create`, `delete`: ids of keys. Events tell of a step, so they go with the write that makes it.
    """

    recorded: KeyState | None
    state: KeyState
    create: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()

    @property
    def moved(self) -> bool:
        """Lifetime alone is bookkeeping."""
        return self.recorded is None or replace(self.state, lifetime=0) != replace(self.recorded, lifetime=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a step depends on. `token`: the annotation's value. `everywhere`: see `rollout.everywhere`. `lost`: keys
    that pods have not found. `lifetime`: how long an upload begun now can live.
    """

    uid: str
    token: str
    everywhere: bool
    lost: frozenset[str]
    lifetime: timedelta
    now: datetime


def key_id(uid: str, token: str) -> str:
    """Of the key that a token asks for."""
    return hashlib.sha256(f"{uid}\n{token}".encode()).hexdigest()[:10]


def step(annotation: str | None, status: Mapping[str, Any], facts: Facts) -> Step:
    """From the state that the Deployment's annotation and the status show, at most one step on."""
    recorded = KeyState.from_text(annotation)
    known = _newer(recorded, KeyState.from_status(status))
    if known is None:
        first = key_id(facts.uid, facts.token)
        state = KeyState(signing=first, accepted=(first,), asked=first, lifetime=_seconds(facts))
        return Step(recorded=None, state=state, create=(first,))
    if known is not recorded:  # what the status does not mirror: the last request counts as done, or it came twice
        known = replace(known, asked=key_id(facts.uid, facts.token))
    proven = known is recorded and facts.everywhere
    lifetime = _seconds(facts) if known.phase is Phase.STABLE else max(known.lifetime, _seconds(facts))
    moved = _move(replace(known, lifetime=lifetime), replace(facts, everywhere=proven))
    created = tuple(key for key in moved.state.accepted if key not in known.accepted)
    return replace(moved, recorded=recorded, create=created)


def _newer(recorded: KeyState | None, mirrored: KeyState | None) -> KeyState | None:
    """The Deployment is written before the status, so it is behind only where somebody has turned it back."""
    if recorded is None or mirrored is None:
        return recorded or mirrored
    return mirrored if _progress(mirrored) > _progress(recorded) else recorded


def _progress(state: KeyState) -> tuple[float, int]:
    return (state.rotated.timestamp() if state.rotated else 0.0, ORDER.index(state.phase))


def _move(state: KeyState, facts: Facts) -> Step:
    if lost := facts.lost.intersection(state.accepted):
        return _replace_lost(state, lost, facts)
    match state.phase:
        case Phase.STABLE:
            return _stable(state, facts)
        case Phase.ACCEPTING if facts.everywhere:
            newest = state.accepted[-1]
            moved = replace(state, signing=newest, phase=Phase.SIGNING)
            return _said(moved, "Normal", "UploadKeySigning", f"Key {newest} signs from now on.")
        case Phase.SIGNING if facts.everywhere:
            return _retire(state, facts)
        case Phase.RETIRING if state.until is None:
            return Step(recorded=None, state=replace(state, until=_after(facts.now, state.lifetime)))
        case Phase.RETIRING if facts.everywhere and state.until is not None and state.until <= facts.now:
            return _retired(state)
        case _:
            return _refuse(state, facts)


def _stable(state: KeyState, facts: Facts) -> Step:
    if state.retired:
        if not facts.everywhere:
            return Step(recorded=None, state=state)
        return Step(recorded=None, state=replace(state, retired=()), delete=state.retired)
    asked = key_id(facts.uid, facts.token)
    if not facts.token or asked in (state.asked, *state.accepted):
        return Step(recorded=None, state=state)
    moved = replace(
        state,
        accepted=(*state.accepted, asked),
        phase=Phase.ACCEPTING,
        asked=asked,
        rotated=facts.now.replace(microsecond=0),
        refused="",
    )
    return _said(moved, "Normal", "UploadKeyRotationStarted", f"Key {asked} is being made known to every pod.")


def _retire(state: KeyState, facts: Facts) -> Step:
    old = [key for key in state.accepted if key != state.signing]
    if not old:
        return Step(recorded=None, state=replace(state, phase=Phase.STABLE))
    until = _after(facts.now, state.lifetime)
    moved = replace(state, phase=Phase.RETIRING, until=until)
    text = f"Uploads begun with key {', '.join(old)} can go on until {time_text(until)}."
    return _said(moved, "Normal", "UploadKeyRetiring", text)


def _retired(state: KeyState) -> Step:
    old = tuple(key for key in state.accepted if key != state.signing)
    moved = replace(
        state, accepted=(state.signing,), phase=Phase.STABLE, until=None, retired=(*state.retired, *old), refused=""
    )
    return _said(moved, "Normal", "UploadKeyRotated", f"Only key {state.signing} is accepted from now on.")


def _refuse(state: KeyState, facts: Facts) -> Step:
    """A request that comes during a rotation is told so, once, and is looked at again when that has ended."""
    asked = key_id(facts.uid, facts.token)
    if not facts.token or asked in (state.asked, state.refused):
        return Step(recorded=None, state=state)
    end = f" until {time_text(state.until)}" if state.until else ""
    text = f"Upload keys are being rotated already{end}; the new request has to wait for that to end."
    return _said(replace(state, refused=asked), "Warning", "UploadKeyRotationRefused", text)


def _replace_lost(state: KeyState, lost: frozenset[str], facts: Facts) -> Step:
    """Pods are ready only with every accepted key, so a lost one has to leave the list at once. Another takes its
    place where it signed, or was about to.
    """
    kept = tuple(key for key in state.accepted if key not in lost)
    moved = replace(state, accepted=kept, retired=(*state.retired, *sorted(lost)))
    if state.signing in lost:
        fresh = key_id(facts.uid, f"lost {state.signing}")
        moved = replace(moved, signing=fresh, accepted=(*kept, fresh), phase=Phase.SIGNING, until=None)
    elif state.phase is Phase.ACCEPTING:
        fresh = key_id(facts.uid, f"lost {state.accepted[-1]}")
        moved = replace(moved, accepted=(*kept, fresh))
    else:
        moved = replace(moved, phase=Phase.STABLE if len(kept) == 1 else state.phase)
    moved = replace(moved, rotated=facts.now.replace(microsecond=0))
    names = ", ".join(sorted(lost))
    text = (
        f"Upload key {names} is lost: its Secret is gone or unusable. Uploads begun with it start again by themselves."
    )
    return _said(moved, "Warning", "UploadKeyLost", text)


def _said(state: KeyState, kind: Literal["Normal", "Warning"], reason: str, message: str) -> Step:
    return Step(recorded=None, state=state, events=(Event(type=kind, reason=reason, message=message),))


def _seconds(facts: Facts) -> int:
    return int(facts.lifetime.total_seconds())


def _after(now: datetime, seconds: int) -> datetime:
    return now.replace(microsecond=0) + timedelta(seconds=seconds + 1)
