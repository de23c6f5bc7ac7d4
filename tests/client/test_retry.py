"""How long and how often is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from putgate import retry
from putgate.errors import Unreachable
from putgate.retry import LEAST_TRIES, passing, persist
from putgate_protocol.problems import Problem, problem


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.0)


class Failing:
    """Fails with each error in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self._errors: Iterator[Exception] = iter(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        for error in self._errors:
            raise error
        return "done"


async def test_what_passes_is_tried_until_it_has_passed() -> None:
    call = Failing(Unreachable("a"), problem("store_unavailable", "b"), problem("upload_busy", "c"))
    assert await persist(call, None) == "done"
    assert call.calls == 4


@pytest.mark.parametrize("code", ["forbidden", "not_found", "upload_gone", "store_refused", "internal_error"])
async def test_a_final_no_is_raised_at_once(code: str) -> None:
    call = Failing(problem(code, "no"))
    with pytest.raises(Problem, match="no"):
        await persist(call, None)
    assert call.calls == 1


async def test_patience_ends_but_never_before_the_third_try() -> None:
    call = Failing(*(Unreachable(str(number)) for number in range(10)))
    with pytest.raises(Unreachable) as caught:
        await persist(call, timedelta(0))
    assert call.calls == LEAST_TRIES
    assert caught.value.given_up
    assert passing(caught.value) is None


async def test_an_error_that_was_given_up_is_not_taken_up_again() -> None:
    inner = Failing(*(Unreachable(str(number)) for number in range(10)))
    with pytest.raises(Unreachable):
        await persist(lambda: persist(inner, timedelta(0)), timedelta(hours=1))
    assert inner.calls == LEAST_TRIES


def test_the_server_is_heard_when_it_says_how_long() -> None:
    assert passing(problem("rate_limited", "slow", retry_after=7)) == 7
    assert passing(problem("rate_limited", "slow", retry_after=1e9)) == 60
    assert passing(problem("rate_limited", "slow")) == 0
