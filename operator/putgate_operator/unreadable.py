"""An UploadBucket that this operator cannot read: its CRD is newer, or was changed by hand. It is told, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from putgate_operator import status
from putgate_operator.deletion import FINALIZER
from putgate_operator.desired.outcome import Desired
from putgate_operator.observed import Raw, dig
from putgate_operator.pods import Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unread:
    generation: int
    status: Mapping[str, Any]


def unreadable(raw: Raw, why: str, now: datetime) -> Desired:
    """What runs goes on as it is. A deletion that keeps the bucket needs no more than the finalizer's end."""
    bucket = _Unread(
        generation=dig(raw, "metadata", "generation", default=0), status=dict(dig(raw, "status", default={}))
    )
    text = f"This operator cannot read the spec; upgrade it, or correct the spec: {why}"
    trouble = Trouble(reason="SpecInvalid", message=text, user_error=True)
    ready = status.Condition(type="Ready", status="False", reason=trouble.reason, message=trouble.message)
    shown = status.amended(bucket, [ready, *status.in_trouble(trouble)], now)
    after = {**bucket.status, "observedGeneration": bucket.generation, "conditions": shown}
    held = FINALIZER in dig(raw, "metadata", "finalizers", default=())
    leaving = dig(raw, "metadata", "deletionTimestamp") is not None
    retained = dig(raw, "spec", "deletionPolicy") != "Delete"
    return Desired(
        status=after,
        events=status.events(bucket.status, after),
        finalizer="remove" if held and leaving and retained else None,
    )
