"""What every route shares: reading messages, writing answers, and problems out of everything that can go wrong."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from typing import TypeVar

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware
from pydantic import ConfigDict, ValidationError
from pydantic_core import to_json

from putgate_api import call_log
from putgate_api.auth import audit
from putgate_api.auth.authenticate import NotAuthenticated
from putgate_api.metrics import Metrics
from putgate_api.reloading import Unreadable
from putgate_api.uploads.batch import invalid_request
from putgate_protocol.messages.base import Message
from putgate_protocol.messages.batch import MAX_BODY_BYTES
from putgate_protocol.problems import HEADER_CODE, HEADER_REQUEST_ID, Problem, problem
from putgate_storage.errors import Permanent, Refused, StoreError, Transient

log = structlog.get_logger("putgate.api")

Answer = TypeVar("Answer", bound=Message)
Other = TypeVar("Other", bound=Message)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BODY_TIMEOUT = "putgate_body_timeout"
"""Where a request keeps how many seconds its body may take."""

_RETRY_AFTER = 1.0
"""Seconds; what a client waits at least for a store that is away. Its own jitter spreads the rest."""


_OUTDATED = frozenset({"ExpiredToken", "TokenRefreshRequired", "InvalidAccessKeyId"})
"""Codes of stores for credentials that hold no more. Whoever renews or rotates them gives others before long."""

_RETRY_OUTDATED = 5.0
"""Seconds; new credentials are noticed within one, and come within minutes."""


class _Members(Message):
    """Any object, to see which members it has."""

    model_config = ConfigDict(extra="allow")


async def read(request: web.Request, kind: type[Answer]) -> Answer:
    """The body as a message. Raises `json_invalid`, `request_invalid`, `body_too_large`."""
    try:
        async with asyncio.timeout(request.get(BODY_TIMEOUT)):
            body = await request.read()
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid_request(error) from None
    except (web.RequestPayloadError, ConnectionError, TimeoutError):
        raise problem("request_invalid", "the body could not be read to its end") from None
    except web.HTTPRequestEntityTooLarge:
        raise problem("body_too_large", f"a request's body has at most {MAX_BODY_BYTES} bytes") from None


async def read_one(
    request: web.Request, fields: AbstractSet[str], kind: type[Answer], other: type[Other]
) -> Answer | Other:
    """The body as a `kind` where it has any of these fields, else as the `other`. Raises as `read` does."""
    members = await read(request, _Members)
    named = members.model_extra or {}
    return await (read(request, other) if fields.isdisjoint(named) else read(request, kind))


def answer(message: Message, *, status: int = 200) -> web.Response:
    return web.Response(body=to_json(message.to_wire()), status=status, content_type="application/json")


def as_problem(error: Exception) -> Problem:
    """Any failure as what a caller gets to see. What is not foreseen says nothing of its inside."""
    match error:
        case Problem():
            return error
        case Transient():
            delay = error.delay if error.delay is not None else _RETRY_AFTER
            return problem(
                "store_unavailable", f"the store does not answer at present ({error.code})", retry_after=delay
            )
        case Permanent() if error.code in _OUTDATED:
            detail = f"the store does not take the server's credentials at present ({error.code})"
            return problem("store_unavailable", detail, retry_after=_RETRY_OUTDATED)
        case Refused() | Permanent():
            return problem("store_refused", f"the store refused: {error} ({error.code})")
        case Unreadable():
            return problem("not_ready", "the server cannot read its keys at present", retry_after=5)
        case _:
            return problem("internal_error", "the server failed; its log says why")


def problem_response(error: Problem) -> web.Response:
    headers = {"Cache-Control": "no-store", HEADER_CODE: error.code}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.code == "unauthenticated":
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(
        body=to_json(error.to_wire()), status=error.status, content_type="application/problem+json", headers=headers
    )


def observing(metrics: Metrics) -> Middleware:
    """A middleware: failures become problems, and every call is counted, timed and logged once.

    What is decided about the caller has its own lines, with the same request id.
    """

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        call = request.match_info.route.name or "unknown"
        code = "ok"
        with (
            audit.request(request.headers.get(HEADER_REQUEST_ID), metrics.denied) as request_id,
            call_log.logged(call_log.CallLine(call=call, request_id=request_id)) as line,
        ):
            try:
                response = await handler(request)
            except Exception as error:  # noqa: BLE001 - every failure has an answer
                found = _judged(error, call, request_id)
                found.request_id = request_id
                code = found.code
                response = problem_response(found)
            except asyncio.CancelledError:
                code = "cancelled"
                raise
            finally:
                seconds = time.perf_counter() - started
                metrics.call(call, code, seconds)
                log.info("call", **line.fields(code, seconds))
            response.headers[HEADER_REQUEST_ID] = request_id
            return response

    return observe


def _judged(error: Exception, call: str, request_id: str) -> Problem:
    """What a call's failure is answered with; what nobody foresaw is logged with all that is known."""
    match error:
        case web.HTTPException():
            return _foreign(error)
        case NotAuthenticated():
            audit.unknown(error.reason)
            return error
        case Problem() | StoreError() | Unreadable():
            return as_problem(error)
        case _:
            log.error("call failed", call=call, error=type(error).__name__, request_id=request_id, exc_info=error)
            return as_problem(error)


def _foreign(error: web.HTTPException) -> Problem:
    """What aiohttp itself refuses."""
    match error.status:
        case 404 | 405:
            return problem("not_found", "there is no such call here; see the protocol's list of calls")
        case 413:
            return problem("body_too_large", f"a request's body has at most {MAX_BODY_BYTES} bytes")
        case _:
            return problem("request_invalid", f"not a request that can be read: {error.reason}")
