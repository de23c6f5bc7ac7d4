"""What is known at present of the store and its preparation. The keeper writes it; the report and `/readyz` read it.

It holds values only, so that reading it never waits for a store.
"""

from __future__ import annotations

from collections.abc import Sequence

from putgate_api.prepare.steps import UNVERIFIED, Prepared
from putgate_api.prepare.trouble import MAX_MESSAGE, Trouble
from putgate_api.records.claim import Claim
from putgate_protocol.report import ConditionType, ReportedCondition, State
from putgate_storage.probe.report import ProbeReport

_GATES: tuple[ConditionType, ...] = ("CredentialsValid", "BucketReady", "IntegrityVerified")
"""In the order in which they are found out."""

_ALL: tuple[ConditionType, ...] = ("CredentialsValid", "BucketReady", "BucketConfigured", "IntegrityVerified")

_BEFORE_CREDENTIALS = frozenset({"StoreUnreachable", "TLSUntrusted"})
"""Reasons that come before the store has looked at any credentials."""


class Status:
    def __init__(self) -> None:
        self._conditions = {kind: _unknown(kind) for kind in _ALL}
        self.prepared: Prepared | None = None
        self.waiting_for = "the bucket is being prepared"

    @property
    def state(self) -> State:
        if self.prepared is None:
            return "Preparing"
        troubled = any(self._conditions[kind].status == "False" for kind in _GATES)
        return "Degraded" if troubled or self.prepared.closed is not None else "Ready"

    @property
    def conditions(self) -> Sequence[ReportedCondition]:
        return list(self._conditions.values())

    def good(self, kind: ConditionType, reason: str, message: str) -> None:
        self._conditions[kind] = ReportedCondition(
            type=kind, status="True", reason=reason, message=message[:MAX_MESSAGE]
        )

    def trouble(self, found: Trouble) -> None:
        """Something is wrong beside all that is known already."""
        self._conditions[found.type] = found.condition()

    def failed(self, found: Trouble) -> None:
        """Preparing ended here. What comes after is as it was known before."""
        at = _GATES.index(found.type)
        if at > 0 and found.reason not in _BEFORE_CREDENTIALS:
            self.credentials_work()
        self.trouble(found)
        self.waiting_for = f"{found.message} ({found.reason})"

    def credentials_work(self) -> None:
        self.good("CredentialsValid", "Verified", "the store accepts the credentials")

    def bucket_is_ours(self, claim: Claim | None) -> None:
        if claim is not None and claim.created:
            self.good("BucketReady", "Created", "Putgate created the bucket")
        else:
            self.good("BucketReady", "Adopted", "the bucket was there before Putgate")

    def integrity_is(self, report: ProbeReport, closed: str | None) -> None:
        if closed is None and report.tier != "none":
            self.good("IntegrityVerified", "Verified", f"tier {report.tier}: the store was seen to refuse wrong bytes")
        elif closed is None:
            message = f"integrity.mode is Unverified: {UNVERIFIED}"
            self.trouble(
                Trouble(
                    type="IntegrityVerified", reason="Unverified", message=message, user_error=False, status="Unknown"
                )
            )
        else:
            found = Trouble(type="IntegrityVerified", reason="IntegrityNotEnforced", message=closed, user_error=True)
            self.trouble(found)


def _unknown(kind: ConditionType) -> ReportedCondition:
    return ReportedCondition(type=kind, status="Unknown", reason="Preparing", message="it is not known yet")
