"""Many repairs at once, then a few, for as long as one wish is undone; a new wish begins anew."""

from __future__ import annotations

import pytest

from putgate_operator.brake import BURST, REFILL, Brake
from putgate_operator.observed import ChildKey

PLACE = ("apps", "media")
SERVICE = ChildKey(kind="Service", name="media-putgate-api")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def brake(clock: Clock) -> Brake:
    return Brake(clock)


def spent(brake: Brake) -> int:
    """Writes that may be made at once."""
    count = 0
    while brake.take(PLACE, SERVICE, "a") >= 1:
        count += 1
    return count


def test_a_burst_and_then_one_each_ten_seconds(brake: Brake, clock: Clock) -> None:
    assert spent(brake) == BURST
    for _ in range(3):
        clock.now += REFILL - 0.5
        assert brake.take(PLACE, SERVICE, "a") < 1
        clock.now += 0.5
        # The write that is made then still is in dispute.
        assert 1 <= brake.take(PLACE, SERVICE, "a") < 2


def test_peace_gives_the_burst_back(brake: Brake, clock: Clock) -> None:
    spent(brake)
    clock.now += REFILL * BURST * 10
    assert spent(brake) == BURST


def test_another_wish_another_child_or_another_bucket_begins_anew(brake: Brake) -> None:
    spent(brake)
    assert brake.take(PLACE, ChildKey(kind="Deployment", name=SERVICE.name), "a") == BURST
    assert brake.take(("apps", "other"), SERVICE, "a") == BURST
    assert brake.take(PLACE, SERVICE, "b") == BURST
    assert brake.take(PLACE, SERVICE, "a") == BURST


def test_a_gone_bucket_is_forgotten(brake: Brake) -> None:
    spent(brake)
    brake.forget(PLACE)
    assert spent(brake) == BURST
    brake.forget(("apps", "never"))
