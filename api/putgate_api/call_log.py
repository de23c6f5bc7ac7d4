"""What is known of the call under way, for its one line in the log.

The call is a context variable, so that authentication, decisions and the store's wrapper can each add what they alone
know, and none of them has to know of requests. Nothing here decides; no URL, token or body is ever kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

MAX_NAME = 1024
"""Characters of a name or subject in a line. Fewer cut names that can be stored; more let a caller fill the disk."""


@dataclass(slots=True, kw_only=True)
class CallLine:
    """`name`: the first that was decided about. `bytes`: sizes of the files declared. `outcomes`: how declared files
    were answered; more than one only in a batch, which is shown by its counts alone.
    """

    call: str
    request_id: str
    caller: str | None = None
    name: str | None = None
    bytes: int = 0
    store_calls: int = 0
    items: int | None = None
    outcomes: Counter[str] = field(default_factory=Counter)

    def fields(self, code: str, seconds: float) -> dict[str, object]:
        """The line. A batch has counts instead of a name and an outcome."""
        line: dict[str, object] = {"request_id": self.request_id, "caller": self.caller, "call": self.call}
        if self.items is None:
            outcome = next(iter(self.outcomes), "answered" if code == "ok" else "refused")
            line |= {"name": self.name, "outcome": outcome}
        else:
            line |= {"items": self.items, "outcome": dict(sorted(self.outcomes.items()))}
        return line | {
            "code": code,
            "bytes": self.bytes,
            "store_calls": self.store_calls,
            "ms": round(seconds * 1000, 1),
        }


_call: ContextVar[CallLine | None] = ContextVar("putgate_call", default=None)


@contextmanager
def logged(line: CallLine) -> Iterator[CallLine]:
    """What is told inside belongs to this call."""
    token = _call.set(line)
    try:
        yield line
    finally:
        _call.reset(token)


def request_id() -> str | None:
    """Of the call under way."""
    line = _call.get()
    return None if line is None else line.request_id


def caller(subject: str) -> None:
    if (line := _call.get()) is not None:
        line.caller = plain(subject)


def about(name: str) -> None:
    line = _call.get()
    if line is not None and line.name is None:
        line.name = plain(name)


def file(outcome: str, size: int) -> None:
    """A file of `size` bytes was declared, and answered so."""
    if (line := _call.get()) is not None:
        line.outcomes[outcome] += 1
        line.bytes += size


def many(items: int) -> None:
    """The call is a batch."""
    if (line := _call.get()) is not None:
        line.items = items


def item(outcome: str) -> None:
    """One item of a batch that declares no file."""
    if (line := _call.get()) is not None:
        line.outcomes[outcome] += 1


def store_call() -> None:
    """A request went to the store; each attempt counts."""
    if (line := _call.get()) is not None:
        line.store_calls += 1


def plain(text: str) -> str:
    """`text` on one line that no terminal acts on: control and other unprintable characters are escaped."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:MAX_NAME])
    return shown if len(text) <= MAX_NAME else f"{shown}…"
