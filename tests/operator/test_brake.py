"""Many repairs at once, then a few, for as long as one wish is undone; a new wish begins anew."""

from __future__ import annotations

import pytest

from putgate_operator.brake import BURST, CALM, EVERY, Brake
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
    while brake.allows(PLACE, SERVICE, "a"):
        count += 1
    return count


def test_a_burst_and_then_now_and_then(brake: Brake, clock: Clock) -> None:
    assert brake.disputed(PLACE) is None
    assert spent(brake) == BURST
    for _ in range(10):
        clock.now += EVERY - 0.5
        assert spent(brake) == 0
        assert brake.disputed(PLACE) == SERVICE
        clock.now += 0.5
        assert spent(brake) == 1
        # A write that is allowed does not end the dispute.
        assert brake.disputed(PLACE) == SERVICE


def test_calm_ends_a_dispute(brake: Brake, clock: Clock) -> None:
    spent(brake)
    clock.now += CALM
    assert brake.disputed(PLACE) == SERVICE
    clock.now += 0.5
    assert brake.disputed(PLACE) is None
    assert spent(brake) == BURST


def test_some_edits_are_no_dispute(brake: Brake, clock: Clock) -> None:
    for _ in range(BURST - 1):
        assert brake.allows(PLACE, SERVICE, "a")
    assert brake.disputed(PLACE) is None


def test_another_wish_another_child_or_another_bucket_begins_anew(brake: Brake) -> None:
    spent(brake)
    assert brake.allows(PLACE, ChildKey(kind="Deployment", name=SERVICE.name), "a")
    assert brake.allows(("apps", "other"), SERVICE, "a")
    assert brake.disputed(("apps", "other")) is None
    assert brake.allows(PLACE, SERVICE, "b")
    assert brake.disputed(PLACE) is None
    assert spent(brake) == BURST


def test_a_gone_bucket_is_forgotten(brake: Brake) -> None:
    spent(brake)
    brake.forget(PLACE)
    assert brake.disputed(PLACE) is None
    assert spent(brake) == BURST
    brake.forget(("apps", "never"))
