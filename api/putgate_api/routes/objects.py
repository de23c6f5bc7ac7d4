"""The calls of `/object/…`: one route each."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from aiohttp import web
from pydantic_core import to_json

from putgate_api import call_log
from putgate_api.auth.caller import Caller
from putgate_api.metrics import Metrics
from putgate_api.routes.http import answer, as_problem, read, read_one
from putgate_api.routes.serving import Serving
from putgate_api.uploads.abort import abort
from putgate_api.uploads.batch import Outcome, batch
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.complete import complete
from putgate_api.uploads.initiate import initiate
from putgate_api.uploads.multipart import Copied
from putgate_api.uploads.sign import sign
from putgate_api.uploads.status import status
from putgate_api.uploads.stream import begin_stream, declare_parts
from putgate_protocol.messages.abort import AbortRequest
from putgate_protocol.messages.base import MAX_SIZE, Message
from putgate_protocol.messages.batch import BatchAnswer, BatchRequest, BatchResult
from putgate_protocol.messages.complete import CompleteAnswer, CompleteRequest, Copying
from putgate_protocol.messages.initiate import Exists, InitiateRequest, Upload
from putgate_protocol.messages.sign import SignRequest
from putgate_protocol.messages.status import StatusRequest
from putgate_protocol.messages.stream import DeclareRequest, StreamRequest
from putgate_protocol.problems import Problem
from putgate_storage.errors import StoreError

log = structlog.get_logger("putgate.api")

Request = TypeVar("Request", bound=Message)
UseCase = Callable[[Bucket, Caller, Request], Awaitable[Message]]


def add_object_routes(app: web.Application, serving: Serving, metrics: Metrics) -> None:
    async def part_limit(request: web.Request) -> web.Response:
        await serving.caller(request)
        body = to_json(serving.bucket.part_limit().to_wire())
        etag = hashlib.sha256(body).hexdigest()[:16]
        headers = {"Cache-Control": "private, max-age=300", "ETag": f'"{etag}"'}
        if any(known.value in {etag, "*"} for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def initiate_upload(request: web.Request) -> web.Response:
        caller = await serving.caller(request)
        message = await read_one(request, {"size", "file_hash", "parts"}, InitiateRequest, StreamRequest)
        size = message.size if isinstance(message, InitiateRequest) else 0
        try:
            outcome = await _begun(serving.bucket, caller, message)
        except (Problem, StoreError) as error:
            _count(metrics, size, error)
            raise
        _count(metrics, size, outcome)
        return answer(outcome)

    async def auth_sign(request: web.Request) -> web.Response:
        caller = await serving.caller(request)
        return answer(
            await _signed(serving.bucket, caller, await read_one(request, {"parts"}, DeclareRequest, SignRequest))
        )

    async def batch_call(request: web.Request) -> web.Response:
        caller = await serving.caller(request)
        message = await read(request, BatchRequest)
        call_log.many(len(message.items))
        outcomes = await batch(serving.bucket, caller, message.items)
        for item, outcome in zip(message.items, outcomes, strict=True):
            if isinstance(initiated := item.get("initiate"), dict):
                _count(metrics, initiated.get("size"), outcome)
            else:
                call_log.item(_completed(outcome))
        return answer(BatchAnswer.model_construct(results=[_result(outcome) for outcome in outcomes]))

    def simple(kind: type[Request], use_case: UseCase[Request]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            caller = await serving.caller(request)
            outcome = await use_case(serving.bucket, caller, await read(request, kind))
            if isinstance(outcome, (CompleteAnswer, Copying)):
                call_log.item(_completed(outcome))
            return answer(outcome)

        return handle

    app.router.add_get("/object/part_limit", part_limit, name="part_limit")
    app.router.add_post("/object/part_limit", part_limit)
    post = app.router.add_post
    post("/object/initiate_multipart_upload", initiate_upload, name="initiate")
    post("/object/batch", batch_call, name="batch")
    post("/object/auth_sign", auth_sign, name="auth_sign")
    post("/object/upload_status", simple(StatusRequest, status), name="upload_status")
    post("/object/complete_multipart_upload", simple(CompleteRequest, complete), name="complete")
    post("/object/abort_multipart_upload", simple(AbortRequest, abort), name="abort")


async def _begun(bucket: Bucket, caller: Caller, message: InitiateRequest | StreamRequest) -> Message:
    if isinstance(message, StreamRequest):
        return await begin_stream(bucket, caller, message)
    return await initiate(bucket, caller, message)


async def _signed(bucket: Bucket, caller: Caller, message: SignRequest | DeclareRequest) -> Message:
    if isinstance(message, DeclareRequest):
        return await declare_parts(bucket, caller, message)
    return await sign(bucket, caller, message)


def _result(outcome: Outcome) -> BatchResult:
    if isinstance(outcome, Message):
        return BatchResult.model_construct(status=200, body=outcome.to_wire())
    found = as_problem(outcome)
    found.request_id = call_log.request_id()
    if found.code == "internal_error":
        log.error("call failed", call="batch", error=type(outcome).__name__, exc_info=outcome)
    return BatchResult.model_construct(status=found.status, body=found.to_wire())


def _count(metrics: Metrics, size: object, outcome: Outcome) -> None:
    """`size` as it was sent, which may be anything."""
    match outcome:
        case Copied():
            label = "copied"
        case Exists():
            label = "exists"
        case Upload(commit="put"):
            label = "put"
        case Upload():
            label = "resumed" if outcome.uploaded else "multipart"
        case Copying():
            label = "copying"
        case _:
            label = as_problem(outcome).code if isinstance(outcome, Exception) else "unknown"
    known = size if isinstance(size, int) and 0 <= size <= MAX_SIZE else 0
    metrics.initiated(label, known)
    call_log.file(label, known)


def _completed(outcome: Outcome) -> str:
    """How a completed, or unreadable, item of a batch ended."""
    match outcome:
        case CompleteAnswer():
            return outcome.status
        case Copying():
            return "copying"
        case _:
            return as_problem(outcome).code if isinstance(outcome, Exception) else "unknown"
