"""Where an UploadBucket's upload keys stand, as the Deployment's annotation and the status write it down."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from putgate_operator.desired.settings import Keys
from putgate_operator.observed import dig

_ID = re.compile(r"[0-9a-f]{10}", re.ASCII)


class Phase(StrEnum):
    STABLE = "Stable"
    ACCEPTING = "Accepting"
    SIGNING = "Signing"
    RETIRING = "Retiring"


ORDER = (Phase.ACCEPTING, Phase.SIGNING, Phase.RETIRING, Phase.STABLE)
"""Of one rotation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyState:
    """`asked`: the id that the last request led to. `rotated`: when the last rotation began. `until`: when retiring
    ends. `lifetime`: seconds that an upload can live, the longest since the rotation began. `retired`: keys whose
    Secrets are still to be deleted. `refused`: the id of a request that came too early, and was told so.
    """

    signing: str
    accepted: tuple[str, ...]
    phase: Phase = Phase.STABLE
    asked: str = ""
    rotated: datetime | None = None
    until: datetime | None = None
    lifetime: int = 0
    retired: tuple[str, ...] = ()
    refused: str = ""

    @property
    def keys(self) -> Keys:
        return Keys(signing=self.signing, accepted=self.accepted)

    def to_text(self) -> str:
        plain = {
            "signing": self.signing,
            "accepted": list(self.accepted),
            "phase": str(self.phase),
            "asked": self.asked,
            "rotated": time_text(self.rotated),
            "until": time_text(self.until),
            "lifetime": self.lifetime,
            "retired": list(self.retired),
            "refused": self.refused,
        }
        return json.dumps({key: value for key, value in plain.items() if value}, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str | None) -> Self | None:
        """None for what is no state: somebody else wrote it."""
        try:
            plain = json.loads(text or "")
            return cls._from(plain) if isinstance(plain, dict) else None
        except (ValueError, TypeError, KeyError):
            return None

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> Self | None:
        """What the status mirrors, for when the Deployment is gone or was turned back."""
        shown = dig(status, "uploadKeys", default={})
        plain = {
            "signing": shown.get("active"),
            "accepted": shown.get("accepted"),
            "phase": shown.get("phase"),
            "rotated": shown.get("lastRotation"),
        }
        try:
            return cls._from(plain)
        except (ValueError, TypeError, KeyError):
            return None

    @classmethod
    def _from(cls, plain: Mapping[str, Any]) -> Self:
        accepted = tuple(map(_id, plain["accepted"]))
        signing = _id(plain["signing"])
        if signing not in accepted:
            raise ValueError("the signing key is one of the accepted ones")
        return cls(
            signing=signing,
            accepted=accepted,
            phase=Phase(plain["phase"]),
            asked=plain.get("asked") or "",
            rotated=_time(plain.get("rotated")),
            until=_time(plain.get("until")),
            lifetime=int(plain.get("lifetime") or 0),
            retired=tuple(map(_id, plain.get("retired") or ())),
            refused=plain.get("refused") or "",
        )


def time_text(time: datetime | None) -> str | None:
    """RFC 3339 in whole seconds, as the API server writes times."""
    return None if time is None else time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(text: Any) -> datetime | None:
    if not text:
        return None
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without a zone")
    return time


def _id(value: Any) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError("not a key's id")
    return value
