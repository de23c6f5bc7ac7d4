"""Waiting for the cluster: everything in it is eventual, so tests ask again until a deadline, and then say why."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

PAUSE = 0.05


def until(what: str, check: Callable[[], Found | None], *, within: float = 60.0) -> Found:
    """The first answer of `check` that is truthy. An AssertionError of `check` counts as "not yet"."""
    deadline = time.monotonic() + within
    while True:
        failed: AssertionError | None = None
        answer: Found | None = None
        try:
            answer = check()
        except AssertionError as error:
            failed = error
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}; last seen: {answer!r}") from failed
        time.sleep(PAUSE)
