"""The calls of the protocol over HTTP: authentication, retries, answers read strictly, problems as exceptions.

No policy about files lives here. Nothing here logs a token or the query of a URL.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import quote, urlencode

import aiohttp
from multidict import CIMultiDictProxy
from pydantic import BaseModel, TypeAdapter, ValidationError
from yarl import URL

from putgate.breaker import Breaker
from putgate.errors import AnswerUnreadable, Unreachable
from putgate.options import Options
from putgate.retry import persist
from putgate.token_file import TokenFile
from putgate.tracing import call_span
from putgate_protocol.messages.abort import AbortAnswer, AbortRequest
from putgate_protocol.messages.access_url import AccessUrlAnswer, AccessUrlRequest
from putgate_protocol.messages.base import File
from putgate_protocol.messages.batch import BatchAnswer
from putgate_protocol.messages.complete import CompleteAnswer, CompleteOutcome, CompleteRequest, Copying
from putgate_protocol.messages.files import (
    HEADER_FILE_HASH,
    HEADER_PART_SIZE,
    HEADER_SIZE,
    HEADER_VERSION,
    ListAnswer,
)
from putgate_protocol.messages.initiate import Exists, InitiateAnswer, InitiateRequest, Upload
from putgate_protocol.messages.part_limit import PartLimitAnswer
from putgate_protocol.messages.sign import SignAnswer, SignRequest
from putgate_protocol.messages.status import StatusAnswer, StatusRequest
from putgate_protocol.messages.stream import DeclareRequest, PartDeclaration, StreamRequest
from putgate_protocol.names import Name
from putgate_protocol.problems import HEADER_CODE, HEADER_REQUEST_ID, NotFound, Problem, problem

log = logging.getLogger("putgate")

Token = str | Callable[[], str] | None
Model = TypeVar("Model", bound=BaseModel)
Result = TypeVar("Result")

Initiated = Exists | Upload | Copying
Completed = CompleteAnswer | Copying

_INITIATED: TypeAdapter[Initiated] = TypeAdapter(InitiateAnswer)
_COMPLETED: TypeAdapter[Completed] = TypeAdapter(CompleteOutcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer that is no problem."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """A stored file's metadata. `part_size`: how it was cut for its hash, where Putgate stored it."""

    file: File
    part_size: int | None


class Wire:
    """One API. `url` is its base and may have a path; the session is the caller's and holds no credentials."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: Token, options: Options) -> None:
        self._session = session
        self._breaker = Breaker()
        self._base = url.rstrip("/")
        self._source = token
        self._token = token() if callable(token) else token
        self._options = options
        self._limit: PartLimitAnswer | None = None

    async def part_limit(self) -> PartLimitAnswer:
        """The bucket's limits; asked once, and again after `forget_limit`."""
        if self._limit is None:
            self._limit = _read(PartLimitAnswer, (await self._call("GET", "/object/part_limit")).body)
        return self._limit

    def forget_limit(self) -> None:
        """What we know of them may be old."""
        self._limit = None

    async def initiate(self, request: InitiateRequest) -> Initiated:
        answer = await self._post("initiate_multipart_upload", request)
        return _initiated(answer.body)

    async def sign(self, upload_id: str, part_numbers: Sequence[int]) -> SignAnswer:
        request = SignRequest(upload_id=upload_id, part_numbers=list(part_numbers))
        return _read(SignAnswer, (await self._post("auth_sign", request)).body)

    async def status(self, upload_id: str) -> StatusAnswer:
        return _read(StatusAnswer, (await self._post("upload_status", StatusRequest(upload_id=upload_id))).body)

    async def begin_stream(self, request: StreamRequest) -> Upload:
        return _read(Upload, (await self._post("initiate_multipart_upload", request)).body)

    async def declare(self, upload_id: str, parts: Sequence[PartDeclaration]) -> SignAnswer:
        """Parts of a stream, declared and signed."""
        request = DeclareRequest(upload_id=upload_id, parts=list(parts))
        return _read(SignAnswer, (await self._post("auth_sign", request)).body)

    async def complete(self, upload_id: str, *, size: int | None = None, file_hash: str | None = None) -> Completed:
        """`size` and `file_hash`: of a stream."""
        request = CompleteRequest(upload_id=upload_id, size=size, file_hash=file_hash)
        return _completed((await self._post("complete_multipart_upload", request)).body)

    async def abort(self, upload_id: str) -> AbortAnswer:
        return _read(AbortAnswer, (await self._post("abort_multipart_upload", AbortRequest(upload_id=upload_id))).body)

    async def batch_initiate(self, requests: Sequence[bytes]) -> list[Initiated | Problem]:
        """Many initiates, each request given as its JSON; answers in the same order."""
        results = await self._batch(b"initiate", requests)
        return [result if isinstance(result, Problem) else _initiated(result) for result in results]

    async def batch_complete(self, upload_ids: Sequence[str]) -> list[Completed | Problem]:
        requests = [CompleteRequest(upload_id=upload_id).model_dump_json().encode() for upload_id in upload_ids]
        results = await self._batch(b"complete", requests)
        return [result if isinstance(result, Problem) else _completed(result) for result in results]

    async def stat(self, name: Name) -> Stat:
        """Raises `NotFound`."""
        try:
            headers = (await self._call("HEAD", _path(name))).headers
        except NotFound:
            raise _absent(name) from None
        return _stat(name, headers)

    async def delete(self, name: Name, if_match: str | None) -> None:
        """Raises `NotFound`, except where an earlier try of this very call may have removed the file."""
        headers = {} if if_match is None else {"If-Match": if_match}
        tries = 0

        async def once(sent: dict[str, str]) -> None:
            nonlocal tries
            tries += 1
            try:
                await self._authenticated("DELETE", _path(name), None, {**headers, **sent})
            except NotFound:
                if tries == 1:
                    raise _absent(name) from None

        await self._persist("DELETE", "/files", once)

    async def locate(self, name: Name) -> str:
        """A presigned URL of the file's bytes. It is a secret until it expires."""
        try:
            answer = await self._call("GET", _path(name))
        except NotFound:
            raise _absent(name) from None
        location = answer.headers.get("Location")
        if answer.status not in (302, 303, 307) or location is None:
            raise AnswerUnreadable(f"{self._base}: answered HTTP {answer.status} to a download instead of a redirect")
        return location

    async def access_url(self, request: AccessUrlRequest) -> AccessUrlAnswer:
        """Raises `NotFound`."""
        return _read(AccessUrlAnswer, (await self._post("access_url", request)).body)

    async def page(self, prefix: bytes, delimiter: str | None, cursor: str | None, limit: int) -> ListAnswer:
        query: dict[str, bytes | str | int] = {"limit": limit}
        if prefix:
            query["prefix"] = prefix
        if delimiter is not None:
            query["delimiter"] = delimiter
        if cursor is not None:
            query["cursor"] = cursor
        answer = await self._call("GET", f"/files?{urlencode(query, quote_via=quote, safe='')}")
        return _read(ListAnswer, answer.body)

    async def _batch(self, kind: bytes, requests: Sequence[bytes]) -> list[object]:
        body = batch_body(kind, requests)
        answer = _read(BatchAnswer, (await self._call("POST", "/object/batch", body)).body)
        if len(answer.results) != len(requests):
            raise AnswerUnreadable(f"{self._base}: {len(requests)} items were sent, {len(answer.results)} answered")
        return [
            Problem.from_wire(result.status, result.body) if result.status >= 400 else result.body
            for result in answer.results
        ]

    async def _post(self, call: str, request: BaseModel) -> Answer:
        return await self._call("POST", f"/object/{call}", request.model_dump_json(exclude_none=True).encode())

    async def _call(self, method: str, path: str, body: bytes | None = None) -> Answer:
        return await self._persist(method, path, lambda headers: self._authenticated(method, path, body, headers))

    async def _persist(self, method: str, path: str, call: Callable[[dict[str, str]], Awaitable[Result]]) -> Result:
        """All tries of a call have one request id, in its headers and in the errors that it ends with."""
        request_id = uuid.uuid4().hex
        headers = {HEADER_REQUEST_ID: request_id}
        try:
            with call_span(method, path, headers):
                return await persist(lambda: call(headers), self._options.give_up_after)
        except Problem as error:
            error.request_id = error.request_id or request_id
            raise

    async def _authenticated(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        if isinstance(self._source, TokenFile):
            # One look at the file's times; another source may be dear, and is asked when its token is refused.
            self._token = self._source()
        used = self._token
        answer = await self._send(method, path, body, headers, used)
        if answer.status == 401 and callable(self._source):
            # Tokens are rotated. Another call may have met this before, and have the new one already.
            self._token = self._source()
            if self._token != used:
                answer = await self._send(method, path, body, headers, self._token)
        if answer.status >= 400:
            raise Problem.from_wire(answer.status, _json(answer.body), code=answer.headers.get(HEADER_CODE))
        return answer

    async def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], token: str | None
    ) -> Answer:
        request_id = headers[HEADER_REQUEST_ID]
        sent = {"Accept": "application/json", **headers}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        url = URL(self._base + path, encoded=True)
        if (why := self._breaker.away()) is not None:
            raise Unreachable(f"{why} (request {request_id})")
        try:
            async with self._session.request(method, url, data=body, headers=sent, allow_redirects=False) as response:
                answer = Answer(status=response.status, headers=response.headers, body=await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = f"{self._base}: {reason(error)}"
            self._breaker.lost(why)
            raise Unreachable(f"{why} (request {request_id})") from None
        self._breaker.answered()
        log.debug("%s %s: HTTP %d, request id %s", method, path.partition("?")[0], answer.status, request_id)
        return answer


def checked_url(url: str) -> str:
    """The base URL of an API. Raises `ValueError`, which says what is wrong with it."""
    if any(char in url for char in "?#@"):
        # It would be in every message, and what stands there may be a password.
        raise ValueError("the URL of the API has no user, password, query or fragment; a token is given by itself")
    try:
        parsed = URL(url)
        port = parsed.port
    except ValueError:
        raise ValueError(f"{url!r} is not a URL that can be called") from None
    if parsed.scheme not in ("http", "https") or not parsed.host or port is None:
        raise ValueError("the URL of the API begins with http:// or https:// and names a host")
    return url


def batch_body(kind: bytes, requests: Sequence[bytes]) -> bytes:
    """The body of a batch of one kind of call, from the JSON of each."""
    return b'{"items":[' + b",".join(b'{"%b":%b}' % (kind, request) for request in requests) + b"]}"


def reason(error: BaseException) -> str:
    """Why a request failed, for people. Never the library's own text: it may hold a whole URL, signature and all."""
    match error:
        case TimeoutError():
            return "no sign of life for too long"
        case aiohttp.ClientSSLError():
            return "cannot connect: no TLS, or no certificate that is trusted here (a CA file adds one)"
        case aiohttp.ClientConnectorError():
            return f"cannot connect: {_errno(error.os_error) or 'no such host'}"
        case aiohttp.ServerDisconnectedError():
            return "the server closed the connection"
        case aiohttp.ClientPayloadError():
            return "the answer was cut off"
        case aiohttp.InvalidURL():
            return "not a URL that can be called"
        case OSError():
            return _errno(error) or "the connection was lost"
        case _:
            return f"the connection was lost ({type(error).__name__})"


def _errno(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else ""


def _path(name: Name) -> str:
    return "/files/" + quote(name.raw, safe="/")


def _absent(name: Name) -> Problem:
    return problem("not_found", f"nothing is stored under the name {name}")


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _read(model: type[Model], body: bytes) -> Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _unreadable(model.__name__, error) from None


def _valid(model: type[Model], body: object) -> Model:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise _unreadable(model.__name__, error) from None


def _initiated(body: object) -> Initiated:
    try:
        return _INITIATED.validate_json(body) if isinstance(body, bytes) else _INITIATED.validate_python(body)
    except ValidationError as error:
        raise _unreadable("InitiateAnswer", error) from None


def _completed(body: object) -> Completed:
    try:
        return _COMPLETED.validate_json(body) if isinstance(body, bytes) else _COMPLETED.validate_python(body)
    except ValidationError as error:
        raise _unreadable("CompleteAnswer", error) from None


def _unreadable(what: str, error: ValidationError) -> AnswerUnreadable:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(step) for step in first["loc"]) or "the whole"
    return AnswerUnreadable(f"the server's answer is no {what}: {place}: {first['msg']}")


def _stat(name: Name, headers: CIMultiDictProxy[str]) -> Stat:
    size = headers.get(HEADER_SIZE, "")
    part_size = headers.get(HEADER_PART_SIZE, "")
    if not size.isdecimal():
        raise AnswerUnreadable(f"the server's answer about {name} has no {HEADER_SIZE}")
    body = {
        **name.to_wire(),
        "size": int(size),
        "file_hash": headers.get(HEADER_FILE_HASH),
        "version": headers.get(HEADER_VERSION),
        "modified": _date(headers.get("Last-Modified")),
        "content_type": headers.get("Content-Type"),
    }
    return Stat(file=_valid(File, body), part_size=int(part_size) if part_size.isdecimal() else None)


def _date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None


def is_stale_rule(error: Exception) -> bool:
    """Whether the API says that our idea of its part size, or of the digests that it needs, is old."""
    return isinstance(error, Problem) and error.code in {"part_size_mismatch", "md5_required"}
