"""The store's time, learnt from the `Date` of its answers.

A signature carries a time that the store compares with its own, so a host whose clock is wrong would sign URLs
that are expired or not yet valid. `Date` has whole seconds and a call takes a while, so one answer only bounds the
offset; it moves no further than the bounds force it to, and a clock that is right stays untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

Clock = Callable[[], datetime]

_RESOLUTION = timedelta(seconds=1)


def utc_now() -> datetime:
    return datetime.now(UTC)


class StoreClock:
    """The local clock, moved by the store's offset."""

    def __init__(self, local: Clock = utc_now) -> None:
        self._local = local
        self._offset = timedelta(0)

    def local(self) -> datetime:
        return self._local()

    def now(self) -> datetime:
        return self._local() + self._offset

    def note(self, date: str | None, sent: datetime) -> datetime | None:
        """Learn from an answer's `Date` to a request begun at local time `sent`; gives the date back."""
        parsed = _parse(date)
        if parsed is None:
            return None
        lowest = parsed - self._local()
        highest = parsed + _RESOLUTION - sent
        self._offset = max(lowest, min(self._offset, highest))
        return parsed


def _parse(date: str | None) -> datetime | None:
    if not date:
        return None
    try:
        parsed = parsedate_to_datetime(date)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
