"""Entries, what is known and the clock → actions, each with its reason. Pure: nothing here looks at anything.

Deletes are not propagated, so no action removes a stored file: what is gone from a folder is only forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from random import Random

from putgate_daemon.entries import Entry
from putgate_daemon.journal.records import Failure, Stored
from putgate_daemon.settle import NANO, Seen, at_rest_from, look
from putgate_protocol.names import Name
from putgate_protocol.problems import NameProblem

GRAIN = 2 * NANO
"""The coarsest file timestamps (FAT has 2 s). A file looked at sooner after its last change than this is racily clean:
it could have been written once more without its change key showing it.
"""

FIRST_RETRY = 2.0
"""Seconds before a failed file is tried again, at most. Shorter hammers, longer keeps people waiting."""

LAST_RETRY = 3600.0
"""Seconds between tries, at most. Retries never end: whoever repairs what was wrong need not tell the daemon."""


class Reason(StrEnum):
    NEW = "new"
    CHANGED = "changed"
    RACY = "written while it was looked at"
    AGAIN = "tried again"
    SETTLING = "still settling"
    UNCHANGED = "unchanged"
    BACKING_OFF = "waits for its next try"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Upload:
    entry: Entry
    name: Name
    reason: Reason


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again at `until_ns`; `seen` is what to remember until then."""

    entry: Entry
    seen: Seen
    until_ns: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing to do."""

    entry: Entry
    reason: Reason


@dataclass(frozen=True, slots=True)
class Refuse:
    """Its name can never be stored; nothing to do but to say so."""

    entry: Entry
    problem: NameProblem


Action = Upload | Wait | Keep | Refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a folder asks for. `patient`: failed files wait for their next try; else all are tried now."""

    prefix: bytes
    settle: timedelta
    patient: bool = True


def decide(
    entry: Entry, *, stored: Stored | None, failure: Failure | None, seen: Seen | None, policy: Policy, now_ns: int
) -> Action:
    """What to do about one file."""
    if stored is not None and stored.change_key == entry.change_key and not stored.racy_until_ns:
        return Keep(entry, Reason.UNCHANGED)
    try:
        name = Name.parse(policy.prefix + entry.path)
    except NameProblem as problem:
        return _refuse(entry, problem, failure if policy.patient else None)
    if failure is not None and failure.change_key == entry.change_key and policy.patient and failure.retry_ns > now_ns:
        return Keep(entry, Reason.BACKING_OFF)
    now_seen = look(entry, seen)
    if stored is not None and stored.change_key == entry.change_key:
        if now_ns < stored.racy_until_ns:
            return Wait(entry, now_seen, stored.racy_until_ns, Reason.RACY)
        return Upload(entry, name, Reason.RACY)
    if now_ns < (until := at_rest_from(entry, now_seen, policy.settle)):
        return Wait(entry, now_seen, until, Reason.SETTLING)
    if failure is not None:
        return Upload(entry, name, Reason.AGAIN)
    return Upload(entry, name, Reason.NEW if stored is None else Reason.CHANGED)


def _refuse(entry: Entry, problem: NameProblem, failure: Failure | None) -> Action:
    if failure is not None and failure.code == problem.code and failure.change_key == entry.change_key:
        return Keep(entry, Reason.REFUSED)
    return Refuse(entry, problem)


def racy_until(entry: Entry, read_from_ns: int) -> int:
    """Until when a file whose bytes were read from `read_from_ns` on may have changed unseen; 0 where it cannot have.

    Times in the future were set by people or other clocks; a write would move them, so they hide none.
    """
    times = (entry.mtime_ns, entry.ctime_ns)
    return max((t + GRAIN for t in times if read_from_ns - GRAIN < t <= read_from_ns + GRAIN), default=0)


def backoff(attempts: int, random: Random, longest: float = LAST_RETRY) -> float:
    """Seconds until the next try after `attempts` failed ones: full jitter below a doubling bound."""
    bound = min(longest, FIRST_RETRY * 2.0 ** min(attempts - 1, 20))
    return random.uniform(bound / 10, bound)
