"""The errors of the protocol, as RFC 9457 problems with stable codes.

    Problem                       anything that the API answers with `application/problem+json`
    ├── BadRequest          400   the request can never succeed as it is
    ├── Unauthenticated     401   no, or no valid, credentials
    ├── Forbidden           403   the caller may not do this
    ├── NotFound            404   no such file, or the upload is gone (`upload_gone`: initiate again)
    ├── Conflict            409   the state does not allow it now
    ├── Expired             410   the upload's session has ended
    ├── PreconditionFailed  412   `if_absent` or `if_match` did not hold
    ├── TooLarge            413   the file or the request's body
    ├── TooMany             429   slow down
    ├── Failed              5xx   the server or its store; says `retry_after` where a retry helps

A client decides by `code`, shows `detail`, and never parses it.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self

STATUS: dict[str, int] = {
    "json_invalid": 400,
    "request_invalid": 400,
    "cursor_invalid": 400,
    "name_invalid": 400,
    "name_reserved": 400,
    "name_too_long": 400,
    "size_invalid": 400,
    "parts_mismatch": 400,
    "hash_mismatch": 400,
    "md5_required": 400,
    "metadata_invalid": 400,
    "content_type_refused": 400,
    "part_number_invalid": 400,
    "upload_id_invalid": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "upload_gone": 404,
    "part_size_mismatch": 409,
    "parts_missing": 409,
    "part_redeclared": 409,
    "upload_busy": 409,
    "name_conflict": 409,
    "upload_expired": 410,
    "precondition_failed": 412,
    "too_large": 413,
    "body_too_large": 413,
    "too_many_uploads": 429,
    "rate_limited": 429,
    "internal_error": 500,
    "precondition_unsupported": 501,
    "store_refused": 502,
    "store_unavailable": 503,
    "not_ready": 503,
}
"""Every code with its HTTP status. A code, once published, keeps its meaning."""

HEADER_CODE = "X-Putgate-Code"
"""Repeats a problem's code: the answer to a HEAD has no body."""

HEADER_REQUEST_ID = "X-Request-Id"
"""Which request it is, for both sides' logs: a client's own id where it is plain, and in every answer."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

MAX_RETRY_AFTER = 24 * 3600.0
"""The longest wait in seconds that is believed of an answer."""


class Problem(Exception):
    """One problem.

    `code`: stable, from `STATUS`. `detail`: for people; names the object and what to do, never a URL's query,
    a token or file content. `retry_after`: seconds, where a retry helps. `parts`: part numbers, for
    `parts_missing`. `request_id`: under which the server's log tells of it, where it is known.
    """

    statuses: ClassVar[tuple[int, ...]] = ()

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        retry_after: float | None = None,
        parts: tuple[int, ...] = (),
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.parts = parts
        self.request_id: str | None = None

    def __str__(self) -> str:
        told = f"{self.detail} ({self.code})"
        return told if self.request_id is None else f"{told} (request {self.request_id})"

    @property
    def status(self) -> int:
        return STATUS.get(self.code, 500)

    def to_wire(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "type": f"urn:putgate:problem:{self.code}",
            "title": self.code.replace("_", " "),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.retry_after is not None:
            body["retry_after"] = self.retry_after
        if self.parts:
            body["parts"] = list(self.parts)
        if self.request_id is not None:
            body["request_id"] = self.request_id
        return body

    @classmethod
    def from_wire(cls, status: int, body: object, *, code: str | None = None) -> Problem:
        """Read an answer's body, or for lack of one (HEAD) the code of its `HEADER_CODE`.

        What is no problem document (a proxy's page, say) becomes one by its status.
        """
        if isinstance(body, dict) and isinstance(code := body.get("code"), str) and code in STATUS:
            parts = body.get("parts")
            found = problem(
                code,
                _plain(body.get("detail", "")),
                retry_after=_seconds(body.get("retry_after")),
                parts=tuple(p for p in parts if type(p) is int) if isinstance(parts, list) else (),
            )
            found.request_id = request_id_of(body.get("request_id"))
            return found
        if body is None and code in STATUS:
            return problem(code, f"the server refused: {code.replace('_', ' ')}")
        return problem(
            _FOREIGN.get(status, "internal_error" if status < 502 else "store_unavailable"),
            f"the server answered HTTP {status} without a problem document",
        )


def request_id_of(value: object) -> str | None:
    """An id of a request that is plain enough for a log and a header, or None."""
    return value if isinstance(value, str) and _REQUEST_ID.fullmatch(value) else None


def _seconds(value: object) -> float | None:
    """A wait that somebody else asks for. What is absurd (negative, not a number, above a day) was not asked for."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_RETRY_AFTER:
        return float(value)
    return None


def _plain(detail: object) -> str:
    """Bounded, and without the lone surrogates that JSON can name and nothing else can hold."""
    return str(detail)[:2000].encode("utf-8", "backslashreplace").decode()


class BadRequest(Problem):
    statuses = (400,)


class Unauthenticated(Problem):
    statuses = (401,)


class Forbidden(Problem):
    statuses = (403,)


class NotFound(Problem):
    statuses = (404,)


class Conflict(Problem):
    statuses = (409,)


class Expired(Problem):
    statuses = (410,)


class PreconditionFailed(Problem):
    statuses = (412,)


class TooLarge(Problem):
    statuses = (413,)


class TooMany(Problem):
    statuses = (429,)


class Failed(Problem):
    statuses = (500, 501, 502, 503)


_BY_STATUS: dict[int, type[Problem]] = {
    status: kind
    for kind in (
        BadRequest,
        Unauthenticated,
        Forbidden,
        NotFound,
        Conflict,
        Expired,
        PreconditionFailed,
        TooLarge,
        TooMany,
        Failed,
    )
    for status in kind.statuses
}

_FOREIGN = {
    400: "request_invalid",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    409: "upload_busy",
    410: "upload_expired",
    412: "precondition_failed",
    413: "body_too_large",
    429: "rate_limited",
    502: "store_unavailable",
    503: "store_unavailable",
    504: "store_unavailable",
}
"""What a status means that came without a problem document: from a proxy between client and API."""


def problem(code: str, detail: str, *, retry_after: float | None = None, parts: tuple[int, ...] = ()) -> Problem:
    """Build the `Problem` of the class that fits `code`; an unknown code is a programming error."""
    return _BY_STATUS[STATUS[code]](code, detail, retry_after=retry_after, parts=parts)


class NameProblem(BadRequest):
    """A name that breaks one of the rules of `names`."""

    @classmethod
    def invalid(cls, why: str) -> Self:
        return cls("name_invalid", f"the name {why}")

    @classmethod
    def reserved(cls, why: str) -> Self:
        return cls("name_reserved", f"the name {why}")

    @classmethod
    def too_long(cls, why: str) -> Self:
        return cls("name_too_long", f"the name {why}")
