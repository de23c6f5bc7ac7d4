"""How the daemon speaks: one event a line on stderr, JSON for machines, plain text for people.

Names and paths come here escaped; tokens, signed URLs and file content never come here at all.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import sys
from typing import Any, Literal, TextIO

import structlog

Format = Literal["auto", "json", "text"]

GATHER = 0.02
"""Seconds for which lines are gathered while the loop runs: thousands of files a second would cost a write each."""


class Lines:
    """A structlog logger that writes lines to a stream, those of one moment in one write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._gathered: list[str] = []
        atexit.register(self._write)

    def msg(self, line: str) -> None:
        self._gathered.append(line + "\n")
        if len(self._gathered) > 1:
            return
        try:
            asyncio.get_running_loop().call_later(GATHER, self._write)
        except RuntimeError:
            # No loop runs here, before it and after it.
            self._write()

    debug = info = warning = error = critical = exception = msg

    def _write(self) -> None:
        lines, self._gathered = self._gathered, []
        self._stream.write("".join(lines))
        self._stream.flush()


def configure(form: Format, *, verbose: bool = False) -> None:
    """Set up the process's log. `auto` is text on a terminal and JSON elsewhere."""
    readable = form == "text" or (form == "auto" and sys.stderr.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(
            # Plain: the richer form prints local variables, tokens among them.
            colors=sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,
        )
        if readable
        else _json
    )
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S" if readable else "iso", utc=not readable)
    lines = Lines(sys.stderr)
    structlog.configure(
        processors=[structlog.processors.add_log_level, stamp, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )


def _json(_logger: object, _method: str, event: structlog.typing.EventDict) -> str:
    return json.dumps(event, default=str, separators=(",", ":"))
