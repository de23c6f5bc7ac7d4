"""A bar of bytes while a command works, on standard error where that is a terminal."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Bar(Protocol):
    """A live bar of bytes, or nothing where nobody watches."""

    def advance(self, count: int) -> None: ...

    def total(self, total: int) -> None: ...

    def describe(self, what: str) -> None: ...

    def shown(self) -> AbstractContextManager[None]: ...


class _NoBar:
    def advance(self, count: int) -> None:
        """Nobody watches."""

    def total(self, total: int) -> None:
        """Nobody watches."""

    def describe(self, what: str) -> None:
        """Nobody watches."""

    def shown(self) -> AbstractContextManager[None]:
        return nullcontext()


def bar_of(what: str, total: int | None, *, quiet: bool) -> Bar:
    """Of `total` bytes; None where nobody knows yet."""
    if quiet or not sys.stderr.isatty():
        return _NoBar()
    # Only here: a tenth of the time that a command takes to start.
    from putgate.cli.live_bar import LiveBar  # noqa: PLC0415

    return LiveBar(what, total)
