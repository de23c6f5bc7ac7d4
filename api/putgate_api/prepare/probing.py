"""What a probe is worth: whether another's result may be taken, and what follows when the store seems to have changed.

Decisions on values; the one who probes is elsewhere. A row without an answer says nothing, so it never takes anything
away. What a later probe finds better than at the start is not used either: races are lost by luck at times, and a
process that has once been told that it may not rely on something goes on so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from putgate_storage.probe.report import ProbeReport, Row

DAY = timedelta(hours=24)
"""How old a result may be, and so how late a change of the store is noticed. A probe costs some 200 small requests."""

JITTER = 0.1
"""The fraction of a day by which a probe may come early, so that of several replicas one probes and the rest adopt."""

_FUTURE = timedelta(minutes=5)
"""How far ahead a result's time may be: clocks differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What the API does because of a report. `checked`: some digest of every part is enforced."""

    sha256: bool
    checked: bool
    commit_by_put: bool
    conditional_put: bool
    conditional_complete: bool
    complete_sha256: bool
    part_copy: bool
    conditional_delete: bool

    @classmethod
    def of(cls, report: ProbeReport) -> Grants:
        return cls(
            sha256=report.tier == "sha256",
            checked=report.tier != "none",
            commit_by_put=report.commit_by_put,
            conditional_put=report.conditional_put_absent and report.conditional_put_match,
            conditional_complete=report.conditional_complete,
            complete_sha256=report.complete_sha256,
            part_copy=report.part_copy,
            conditional_delete=report.conditional_delete,
        )

    def lost_since(self, before: Grants) -> bool:
        """Whether anything of `before` is no longer granted."""
        return any(getattr(before, name) and not getattr(self, name) for name in self.__slots__)


def adoptable(report: ProbeReport, now: datetime) -> bool:
    """Whether a recorded result may stand for a probe of one's own. One that refuses the store is looked at again."""
    return report.tier != "none" and report.conclusive and -_FUTURE <= now - report.probed_at < DAY


def until_due(report: ProbeReport, now: datetime, chance: float) -> timedelta:
    """How long a result still holds. `chance`: in [0, 1), a random number of this process."""
    return max(report.probed_at + DAY * (1 - JITTER * chance) - now, timedelta())


def effective(found: ProbeReport, *, held: ProbeReport, first: ProbeReport) -> ProbeReport:
    """A later result as it may be used: its open rows as in `held`, and no row better than in `first`, where that had
    an answer.
    """
    before = {row.check: row for row in held.rows}
    limits = {row.check: row for row in first.rows}

    def used(row: Row) -> Row:
        if row.verdict == "inconclusive":
            row = before[row.check]
        return limits[row.check] if limits[row.check].verdict == "failed" else row

    return replace(found, rows=tuple(map(used, found.rows)))
