from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from putgate_daemon.entries import Entry
from putgate_daemon.journal.records import Failure, Stored
from putgate_daemon.plan import (
    GRAIN,
    LAST_RETRY,
    Action,
    Keep,
    Policy,
    Reason,
    Refuse,
    Upload,
    Wait,
    backoff,
    decide,
    racy_until,
)
from putgate_daemon.settle import NANO, Seen
from tests.daemon.made import entry, failure, stored

POLICY = Policy(prefix=b"in/", settle=timedelta(seconds=2))
ONCE = Policy(prefix=b"in/", settle=timedelta(seconds=2), patient=False)


def plan(
    found: Entry,
    known: Stored | None = None,
    failed: Failure | None = None,
    seen: Seen | None = None,
    *,
    now: float = 1000,
    policy: Policy = POLICY,
) -> Action:
    return decide(found, stored=known, failure=failed, seen=seen, policy=policy, now_ns=int(now * NANO))


def test_a_new_file_at_rest_is_uploaded_under_its_prefix() -> None:
    action = plan(entry(b"d/\xff"))
    assert isinstance(action, Upload)
    assert action.reason is Reason.NEW
    assert action.name.raw == b"in/d/\xff"


def test_an_unchanged_file_costs_nothing() -> None:
    found = entry()
    assert plan(found, stored(found.change_key)) == Keep(found, Reason.UNCHANGED)


def test_a_changed_file_is_uploaded_again() -> None:
    action = plan(entry(size=6), stored(entry().change_key))
    assert isinstance(action, Upload)
    assert action.reason is Reason.CHANGED


def test_a_young_file_waits_until_it_is_quiet() -> None:
    found = entry(mtime=999, ctime=999.5)
    action = plan(found)
    assert isinstance(action, Wait)
    assert (action.reason, action.until_ns) == (Reason.SETTLING, int(1001.5 * NANO))
    assert isinstance(plan(found, seen=action.seen, now=1001.4), Wait)
    assert isinstance(plan(found, seen=action.seen, now=1001.5), Upload)


def test_a_racily_clean_file_is_looked_at_again_once_its_grain_is_over() -> None:
    found = entry(mtime=999, ctime=999)
    known = stored(found.change_key, racy_until=1001)
    early = plan(found, known, now=1000)
    assert isinstance(early, Wait)
    assert (early.reason, early.until_ns) == (Reason.RACY, 1001 * NANO)
    late = plan(found, known, now=1001)
    assert isinstance(late, Upload)
    assert late.reason is Reason.RACY


def test_a_failed_file_waits_for_its_next_try_unless_it_changes() -> None:
    found = entry()
    assert plan(found, failed=failure(found.change_key, retry=1010)) == Keep(found, Reason.BACKING_OFF)
    due = plan(found, failed=failure(found.change_key, retry=1000))
    assert isinstance(due, Upload)
    assert due.reason is Reason.AGAIN
    assert isinstance(plan(found, failed=failure("other", retry=1010)), Upload)


def test_a_single_run_tries_everything() -> None:
    found = entry()
    assert isinstance(plan(found, failed=failure(found.change_key, retry=9999), policy=ONCE), Upload)


def test_a_failed_file_that_changes_must_settle_again() -> None:
    found = entry(mtime=999.5, ctime=999.5)
    assert isinstance(plan(found, failed=failure("other", retry=1), seen=Seen("other", 0)), Wait)


@pytest.mark.parametrize(
    ("path", "code"),
    [(b".putgate/x", "name_reserved"), (b"d/.putgate/y", "name_reserved"), (b"x" * 1022, "name_too_long")],
)
def test_a_name_that_can_never_be_stored_is_refused_once(path: bytes, code: str) -> None:
    found = entry(path)
    action = plan(found)
    assert isinstance(action, Refuse)
    assert action.problem.code == code
    told = failure(found.change_key, retry=9e9, code=code)
    assert plan(found, failed=told) == Keep(found, Reason.REFUSED)
    assert isinstance(plan(found, failed=told, policy=ONCE), Refuse)


def test_racy_until() -> None:
    assert racy_until(entry(mtime=100, ctime=101), 1000 * NANO) == 0
    assert racy_until(entry(mtime=100, ctime=999), 1000 * NANO) == 999 * NANO + GRAIN
    assert racy_until(entry(mtime=100, ctime=998), 1000 * NANO) == 0
    assert racy_until(entry(mtime=99_999, ctime=500), 1000 * NANO) == 0


@given(st.integers(1, 10_000), st.integers())
def test_backoff_has_no_cap_on_tries_and_one_on_time(attempts: int, seed: int) -> None:
    assert 0 < backoff(attempts, Random(seed)) <= LAST_RETRY
    assert backoff(attempts, Random(seed), 60.0) <= 60.0


def test_backoff_spreads() -> None:
    delays = {round(backoff(12, Random(seed))) for seed in range(100)}
    assert len(delays) > 50


@given(
    size=st.integers(0, 2**45),
    mtime=st.integers(0, 4000),
    ctime=st.integers(0, 4000),
    settle=st.integers(0, 100),
    now=st.integers(1000, 3000),
)
def test_waiting_ends(size: int, mtime: int, ctime: int, settle: int, now: int) -> None:
    """However odd its times, a file that stays as it is gets uploaded, and is then known."""
    policy = Policy(prefix=b"", settle=timedelta(seconds=settle))
    found = entry(size=size, mtime=mtime, ctime=ctime, seen=now)
    action = plan(found, now=now, policy=policy)
    if isinstance(action, Wait):
        until = action.until_ns / NANO
        assert until <= now + settle * 30 + 1
        action = plan(found, seen=action.seen, now=until + 0.001, policy=policy)
    assert isinstance(action, Upload)
    racy = racy_until(found, now * NANO)
    again = plan(found, stored(found.change_key, racy_until=racy / NANO), now=max(now, racy / NANO), policy=policy)
    assert isinstance(again, Upload if racy else Keep)
