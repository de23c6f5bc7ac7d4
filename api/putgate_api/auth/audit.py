"""One line for each decision about a caller, so that who could do what, and who could not, can be told afterwards.

The request that a decision belongs to is a context variable: decisions fall deep inside use cases, which know nothing
of requests and should not. Nothing here decides, and no token, URL or content is ever written.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

import structlog

from putgate_api import call_log
from putgate_api.auth.authenticate import Unknown
from putgate_api.auth.caller import Verb
from putgate_protocol.problems import request_id_of

LOGGER = "putgate.audit"
"""Each line names it, so that it can be told from the program's other lines."""

log = structlog.get_logger(LOGGER)

Refusal = Literal["no_rule", "not_granted", "too_large", "not_owner"]
"""Why a known caller may not: no rule is about them; none grants this verb on this name; the file is too large; the
upload is somebody else's.
"""


@dataclass(slots=True, kw_only=True)
class _Request:
    """`told`: decisions that have their line; a use case may come by the same question twice in one request."""

    id: str
    denied: Callable[[Unknown | Refusal], None]
    told: set[tuple[str, str, bool]] = field(default_factory=set)


_request: ContextVar[_Request | None] = ContextVar("putgate_request", default=None)


@contextmanager
def request(sent_id: str | None, denied: Callable[[Unknown | Refusal], None]) -> Iterator[str]:
    """Decisions inside belong to this request; gives its id. `denied` hears of every refusal.

    A caller's own id is taken when it is plain, so that both sides' logs can be laid side by side.
    """
    current = _Request(id=request_id_of(sent_id) or uuid.uuid4().hex, denied=denied)
    token = _request.set(current)
    try:
        yield current.id
    finally:
        _request.reset(token)


def unknown(reason: Unknown) -> None:
    """Nobody that is known here."""
    current = _request.get()
    if current is not None:
        current.denied(reason)
    _write(current, subject=None, decision="denied", reason=reason)


def allowed(subject: str, verb: Verb, name: str, rule: str) -> None:
    call_log.about(name)
    current = _request.get()
    if not _again(current, verb, name, granted=True):
        _write(current, subject=subject, verb=verb, name=name, decision="allowed", rule=rule)


def denied(subject: str, verb: Verb, name: str, reason: Refusal) -> None:
    call_log.about(name)
    current = _request.get()
    if _again(current, verb, name, granted=False):
        return
    if current is not None:
        current.denied(reason)
    _write(current, subject=subject, verb=verb, name=name, decision="denied", reason=reason)


def _write(current: _Request | None, **fields: str | None) -> None:
    log.info("access", logger=LOGGER, request_id=None if current is None else current.id, **fields)


def _again(current: _Request | None, verb: Verb, name: str, *, granted: bool) -> bool:
    if current is None:
        return False
    decision = (verb, name, granted)
    if decision in current.told:
        return True
    current.told.add(decision)
    return False
