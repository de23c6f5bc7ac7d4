"""How commands tell what they do: plain lines for people, JSON where asked for.

Results go to standard output, everything about the way there to standard error.
"""

from __future__ import annotations

import json
import time

import stamina.instrumentation

from putgate.cli.exits import complain, explain
from putgate.errors import Unreachable
from putgate.upload.job import Failed, Uploaded
from putgate_protocol.messages.base import File
from putgate_protocol.names import Name
from putgate_protocol.problems import Problem

PATIENCE = 5.0
"""Seconds between two notes about waiting, so that many waiting parts make one line."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def note_waiting() -> None:
    """Say on standard error, now and then, why nothing moves. For a program only: it replaces global hooks."""
    last = float("-inf")

    def hook(details: stamina.instrumentation.RetryDetails) -> None:
        nonlocal last
        cause = details.caused_by
        if isinstance(cause, Unreachable | Problem) and time.monotonic() - last >= PATIENCE:
            last = time.monotonic()
            complain(f"waiting: {cause}")

    stamina.instrumentation.set_on_retry_hooks([hook])


def uploaded(outcome: Uploaded | Failed, *, as_json: bool) -> None:
    """One line about one file."""
    name = outcome.job.name
    match outcome:
        case Failed():
            if as_json:
                emit({**name.to_wire(), "status": "failed", "error": failure(outcome.error)})
            local = isinstance(outcome.error, OSError) and outcome.error.filename is not None
            complain(explain(outcome.error), None if local else name)
        case Uploaded():
            status = "exists" if outcome.how == "exists" else "uploaded"
            if as_json:
                emit({**outcome.file.to_wire(), "status": status, "sent_bytes": outcome.sent_bytes})
            else:
                why = "already stored, nothing sent" if status == "exists" else human(outcome.file.size)
                print(f"{status:8}  {name}  ({why})", flush=True)


def failure(error: Exception) -> dict[str, str]:
    """An error as JSON: the protocol's code where it has one, else the kind of error."""
    code = error.code if isinstance(error, Problem) else type(error).__name__
    return {"code": code, "detail": explain(error)}


def emit(value: object) -> None:
    """One JSON value on one line."""
    print(json.dumps(value), flush=True)


def name_of(file: File) -> Name:
    return Name.from_wire(file.name, file.name_b64)


def human(size: int) -> str:
    """A size for people: `1.5 MiB`."""
    value = float(size)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the last unit takes all")
