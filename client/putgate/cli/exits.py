"""Exit codes, and the one place that turns errors into them and into one clear line."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine, Iterable
from typing import Any, NoReturn

from putgate.errors import AnswerUnreadable, ClientError, FileReplaced, SourceChanged, Unreachable
from putgate.upload.prepare import FileError
from putgate_protocol.names import Name
from putgate_protocol.problems import Forbidden, NotFound, Problem, Unauthenticated

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
NOT_ALLOWED = 4
NOT_FOUND = 5
INTERRUPTED = 130

RESUMED = "interrupted; the same command goes on where this one stopped"

EPILOG = """\b
Exit codes:
  0    all went well
  1    something failed; each failed file has its line
  2    wrong usage or configuration; nothing was done
  3    the API or the store could not be reached
  4    the token is missing, not known, or may not do this
  5    no such file is stored
  130  interrupted (Ctrl-C)
Several files that failed for different reasons: 1.
"""

_PASSING = frozenset({"store_unavailable", "not_ready", "rate_limited", "too_many_uploads"})

_NEXT = {
    "unauthenticated": "give a valid token: --token-file, $PUTGATE_TOKEN_FILE or $PUTGATE_TOKEN",
    "forbidden": "ask the bucket's admin for this verb and prefix",
    "precondition_failed": "the name holds something else than you expect; look with `putgate stat`",
    "precondition_unsupported": "this store cannot keep such a promise for large files; try without it",
    "upload_busy": "another client is publishing this file; try again in a minute",
    "store_unavailable": "the store behind the API is down; try again later",
}


def code_of(error: Exception) -> int:
    """The exit code for one error."""
    match error:
        case Unauthenticated() | Forbidden():
            return NOT_ALLOWED
        case NotFound(code="not_found"):
            return NOT_FOUND
        case Unreachable() | AnswerUnreadable():
            return UNREACHABLE
        case Problem() if error.code in _PASSING:
            return UNREACHABLE
        case _:
            return FAILED


def code_of_all(errors: Iterable[Exception]) -> int:
    """The exit code for a run over several files: the one they share, or that something failed."""
    codes = {code_of(error) for error in errors}
    if not codes:
        return OK
    return codes.pop() if len(codes) == 1 else FAILED


def explain(error: Exception) -> str:
    """One line: what went wrong, and what to do next where that is known."""
    match error:
        case Problem():
            after = _NEXT.get(error.code)
            return f"{error}; {after}" if after else str(error)
        case SourceChanged():
            return f"{error}; upload it again when nothing writes to it"
        case FileReplaced():
            return f"{error}; download it again"
        case Unreachable():
            return f"{error}; is the address right, and is it up?"
        case ClientError():
            return str(error)
        case OSError():
            return _local(error)
        case _:
            return str(error)


def _local(error: OSError) -> str:
    what = (error.strerror or type(error).__name__).lower()
    if error.filename is None:
        return what
    path = error.filename if isinstance(error.filename, bytes | str) else str(error.filename)
    return f"{shown(os.fsencode(path))}: {what}"


def shown(raw: bytes) -> str:
    """A path as it can be printed: one line, no control characters, whatever bytes it has."""
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def complain(message: str, name: Name | None = None) -> None:
    """One line on standard error."""
    about = "" if name is None or str(name) in message else f"{name}: "
    print(f"putgate: {about}{message}", file=sys.stderr)


def run(main: Coroutine[Any, Any, int], *, interrupted: str = RESUMED) -> NoReturn:
    """Run a command to its exit code; Ctrl-C, or whatever else cancels it, ends it quietly."""
    try:
        sys.exit(asyncio.run(main))
    except (KeyboardInterrupt, asyncio.CancelledError):
        complain(interrupted)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has seen enough. Python would complain about it once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except FileError as error:
        complain(explain(error))
        sys.exit(code_of(error))
