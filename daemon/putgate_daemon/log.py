"""How the daemon speaks: one event a line on stderr, JSON for machines, plain text for people.

Names and paths come here escaped; tokens, signed URLs and file content never come here at all.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Literal

import structlog

Format = Literal["auto", "json", "text"]


def configure(form: Format, *, verbose: bool = False) -> None:
    """Set up the process's log. `auto` is text on a terminal and JSON elsewhere."""
    readable = form == "text" or (form == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if readable else _json
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S" if readable else "iso", utc=not readable)
    structlog.configure(
        processors=[structlog.processors.add_log_level, stamp, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _json(_logger: object, _method: str, event: structlog.typing.EventDict) -> str:
    return json.dumps(event, default=str, separators=(",", ":"))
