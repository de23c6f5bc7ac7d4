"""One asks for all while the server is away; a line that only loses some calls changes nothing."""

from __future__ import annotations

import pytest

from putgate.breaker import LOST, PAUSE, Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def asked(breaker: Breaker) -> bool:
    why = breaker.away()
    assert why in (None, "api: connection refused")
    return why is None


def test_one_call_asks_for_all_until_there_is_an_answer() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(LOST):
        assert asked(breaker)
        breaker.lost("api: connection refused")
    for _ in range(10):
        assert [asked(breaker) for _ in range(100)].count(True) == 1
        clock.now += PAUSE
    assert asked(breaker)
    breaker.answered()
    assert all(asked(breaker) for _ in range(100))


@pytest.mark.parametrize("between", range(1, LOST))
def test_calls_that_are_lost_now_and_then_are_no_outage(between: int) -> None:
    breaker = Breaker(Clock())
    for _ in range(20):
        for _ in range(between):
            breaker.lost("api: connection reset")
        breaker.answered()
        for _ in range(between):
            assert asked(breaker)
