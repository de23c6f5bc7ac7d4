"""What one look at an UploadBucket decides: writes, a status, events and when to look again. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from putgate_operator.observed import ChildKey, Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """For people, and posted once: it tells of a change, never of a state."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySecret:
    """A Secret to be created, never updated: `manifest` lacks only its data, the key `key` with the standard base64
    of 32 random bytes as its text. That it exists already is success.
    """

    key_id: str
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """To be carried out in this order, each step safe to repeat: `finalizer` "add", `create_secrets`, `delete`,
    `apply`, `status`, `events`, `finalizer` "remove".

    `apply`: in order; a manifest with `metadata.uid` changes exactly that live object, one without it must meet none
    of its name. `status`: the whole of it, to be written where it differs. `abandoned`: why a bucket that should have
    been removed is kept, for log and metric.
    """

    apply: tuple[Manifest, ...] = ()
    delete: tuple[ChildKey, ...] = ()
    create_secrets: tuple[KeySecret, ...] = ()
    status: dict[str, Any]
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
    finalizer: Literal["add", "remove"] | None = None
    abandoned: str | None = None
