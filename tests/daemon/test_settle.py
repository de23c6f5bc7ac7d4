from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from putgate_daemon.settle import NANO, Seen, at_rest_from, look, quiet_time
from tests.daemon.made import entry

TWO = timedelta(seconds=2)
GIB = 1024**3


def test_quiet_time_grows_with_size_up_to_its_end() -> None:
    assert quiet_time(0, TWO) == 2 * NANO
    assert quiet_time(1024**2, TWO) == 2 * NANO
    assert 2 * NANO < quiet_time(32 * 1024**2, TWO) < 60 * NANO
    assert quiet_time(GIB, TWO) == 60 * NANO
    assert quiet_time(100 * GIB, TWO) == 60 * NANO
    assert quiet_time(GIB, timedelta(0)) == 0


@given(st.integers(0, 2**50), st.integers(0, 2**50), st.integers(0, 3600))
def test_a_larger_file_never_settles_sooner(one: int, other: int, seconds: int) -> None:
    settle = timedelta(seconds=seconds)
    assert quiet_time(min(one, other), settle) <= quiet_time(max(one, other), settle)


def test_a_first_look_believes_the_files_own_times() -> None:
    old = entry(mtime=100, ctime=110, seen=1000)
    assert look(old, None).since_ns == 110 * NANO
    assert at_rest_from(old, look(old, None), TWO) == 112 * NANO


def test_an_old_mtime_does_not_hide_a_new_ctime() -> None:
    """A file put in place with preserved times (`cp -p`, `tar`) was written now."""
    copied = entry(mtime=100, ctime=999, seen=1000)
    assert look(copied, None).since_ns == 999 * NANO


def test_times_in_the_future_begin_to_count_at_the_look() -> None:
    odd = entry(mtime=5000, ctime=4000, seen=1000)
    assert look(odd, None).since_ns == 1000 * NANO
    touched = entry(mtime=5000, ctime=900, seen=1000)
    assert look(touched, None).since_ns == 900 * NANO


def test_a_change_under_our_eyes_begins_anew_and_no_change_goes_on() -> None:
    first = entry(mtime=100, ctime=100, seen=1000)
    seen = look(first, None)
    assert look(entry(mtime=100, ctime=100, seen=1005), seen) is seen
    # Its times went backwards: only our own clock tells when it changed.
    changed = look(entry(mtime=50, ctime=50, size=6, seen=1010), seen)
    assert changed.since_ns == 1010 * NANO
    assert isinstance(changed, Seen)
