"""Every call as one value: where it is, what it takes, and with what it may answer. A table, and nothing else.

What a message looks like is its model's to say; a code's status is `putgate_protocol.problems`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from putgate_api.contract import examples
from putgate_protocol.messages.abort import AbortAnswer, AbortRequest
from putgate_protocol.messages.access_url import AccessUrlAnswer, AccessUrlRequest
from putgate_protocol.messages.base import Message
from putgate_protocol.messages.batch import BatchAnswer, BatchRequest
from putgate_protocol.messages.complete import CompleteAnswer, CompleteRequest, Copying
from putgate_protocol.messages.files import (
    HEADER_FILE_HASH,
    HEADER_PART_SIZE,
    HEADER_SIZE,
    HEADER_VERSION,
    MAX_LIMIT,
    ListAnswer,
)
from putgate_protocol.messages.initiate import Exists, InitiateRequest, Upload
from putgate_protocol.messages.part_limit import PartLimitAnswer
from putgate_protocol.messages.sign import SignAnswer, SignRequest
from putgate_protocol.messages.status import StatusAnswer, StatusRequest
from putgate_protocol.messages.stream import DeclareRequest, StreamRequest

Method = Literal["get", "post", "head", "delete"]
Tag = Literal["Uploads", "Files", "Contract"]

_ALWAYS = ("request_invalid", "rate_limited", "internal_error")
_AUTHENTICATED = ("unauthenticated", "forbidden", "store_refused", "store_unavailable", "not_ready")
_BODY = ("json_invalid", "body_too_large")
_NAME = ("name_invalid", "name_reserved", "name_too_long")
_UPLOAD_ID = ("upload_id_invalid", "upload_expired", "too_large", *_NAME)

_DECLARED = (
    *_NAME,
    "size_invalid",
    "parts_mismatch",
    "hash_mismatch",
    "md5_required",
    "metadata_invalid",
    "content_type_refused",
    "upload_gone",
    "part_size_mismatch",
    "upload_busy",
    "precondition_failed",
    "too_large",
    "too_many_uploads",
    "precondition_unsupported",
)
_COMPLETED = (*_UPLOAD_ID, "upload_gone", "parts_missing", "upload_busy", "precondition_failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A header that an answer has; `always`, or where it says something."""

    name: str
    description: str
    always: bool = True
    type: Literal["string", "integer"] = "string"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What the path, the query or a header says."""

    name: str
    place: Literal["path", "query", "header"]
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    example: str | int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that is no problem. `models`: of the body, which is one of them; or `content_type` of another body."""

    status: int
    description: str
    models: tuple[type[Message], ...] = ()
    content_type: str | None = None
    headers: tuple[Header, ...] = ()
    examples: Mapping[str, examples.Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """`codes`: every problem that it may answer with."""

    id: str
    method: Method
    path: str
    tag: Tag
    summary: str
    description: str = ""
    answers: tuple[Answer, ...]
    requests: tuple[type[Message], ...] = ()
    request_examples: Mapping[str, examples.Json] = field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()
    own_codes: tuple[str, ...] = ()
    public: bool = False

    @property
    def codes(self) -> tuple[str, ...]:
        who = () if self.public else _AUTHENTICATED
        body = _BODY if self.requests else ()
        return (*_ALWAYS, *who, *body, *self.own_codes)


_ETAG = Header(name="ETag", description="Changes with the content; for `If-None-Match`.")
_CACHED = Header(name="Cache-Control", description="How long a copy is good.")
_NOT_KEPT = (
    Header(name="Cache-Control", description="`no-store`: a signed URL is a secret."),
    Header(name="Referrer-Policy", description="`no-referrer`."),
)
_IF_NONE_MATCH = Parameter(
    name="If-None-Match", place="header", description="The `ETag` of a copy: 304 where it is still good."
)
_NAME_IN_PATH = Parameter(
    name="name",
    place="path",
    description="The file's name, percent-encoded once. Its `/` may stand as they are or as `%2F`.",
    schema={"type": "string", "minLength": 1},
    example="photos/cat.jpg",
)
_LIMITS = (
    Answer(
        status=200,
        description="The limits.",
        models=(PartLimitAnswer,),
        headers=(_ETAG, _CACHED),
        examples={"limits": examples.PART_LIMIT},
    ),
    Answer(status=304, description="The copy that `If-None-Match` names is still good.", headers=(_ETAG, _CACHED)),
)


def _call(
    name: str,
    summary: str,
    requests: tuple[type[Message], ...],
    *answers: Answer,
    of: Mapping[str, examples.Json],
    codes: tuple[str, ...],
    description: str = "",
    tag: Tag = "Uploads",
) -> Operation:
    return Operation(
        id=name,
        method="post",
        path=f"/object/{name}",
        tag=tag,
        summary=summary,
        description=description,
        requests=requests,
        request_examples=of,
        answers=answers,
        own_codes=codes,
    )


_UPLOADS = (
    Operation(
        id="part_limit",
        method="get",
        path="/object/part_limit",
        tag="Uploads",
        summary="The limits of the bucket, and its part rule",
        description="Start at `part_size` and double it while `ceil(size / part_size) > max_parts`.",
        parameters=(_IF_NONE_MATCH,),
        answers=_LIMITS,
    ),
    Operation(
        id="part_limit_by_post",
        method="post",
        path="/object/part_limit",
        tag="Uploads",
        summary="The same, for who posts every call",
        parameters=(_IF_NONE_MATCH,),
        answers=_LIMITS,
    ),
    _call(
        "initiate_multipart_upload",
        "Declare a file: it exists already, or here is how to send it",
        (InitiateRequest, StreamRequest),
        Answer(
            status=200,
            description="`exists`: nothing is sent. `copying`: call complete. `upload`: send the parts.",
            models=(Exists, Upload, Copying),
            examples={
                "upload": examples.UPLOAD,
                "one_put": examples.ONE_PUT,
                "exists": examples.EXISTS,
                "copying": examples.COPYING,
                "stream": examples.STREAM_BEGUN,
            },
        ),
        of={"multipart": examples.INITIATE, "one_part": examples.INITIATE_SMALL, "stream": examples.STREAM},
        codes=_DECLARED,
        description="Send each of `parts` exactly as it stands: method, URL byte for byte, these headers alone. "
        "A stream declares its parts later, by auth_sign.",
    ),
    _call(
        "auth_sign",
        "Sign parts (again)",
        (SignRequest, DeclareRequest),
        Answer(status=200, description="Signed.", models=(SignAnswer,), examples={"parts": examples.SIGNED}),
        of={"parts": examples.SIGN, "stream": examples.DECLARE},
        codes=(
            *_UPLOAD_ID,
            "part_number_invalid",
            "part_redeclared",
            "size_invalid",
            "md5_required",
            "upload_gone",
            "upload_busy",
        ),
        description="For the next page, and on 403 or expiry for the part concerned. "
        "Of a stream: declare these parts, for good, and sign them.",
    ),
    _call(
        "upload_status",
        "Which parts the store holds",
        (StatusRequest,),
        Answer(status=200, description="What there is.", models=(StatusAnswer,), examples={"open": examples.STATUS}),
        of={"status": examples.UPLOAD_ID},
        codes=(*_UPLOAD_ID, "upload_gone"),
    ),
    _call(
        "complete_multipart_upload",
        "Verify, publish, answer the file",
        (CompleteRequest,),
        Answer(
            status=200,
            description="`complete`: published. `copying`: call again. `superseded`: published, and replaced since.",
            models=(CompleteAnswer, Copying),
            examples={
                "complete": examples.COMPLETE,
                "copying": examples.COPYING,
                "superseded": examples.SUPERSEDED,
            },
        ),
        of={"complete": examples.UPLOAD_ID, "stream": examples.STREAM_END},
        codes=(*_COMPLETED, "size_invalid", "hash_mismatch"),
        description="Idempotent: after a lost answer the same call gives the same result.",
    ),
    _call(
        "abort_multipart_upload",
        "Give up an upload",
        (AbortRequest,),
        Answer(status=200, description="Given up.", models=(AbortAnswer,), examples={"aborted": examples.ABORTED}),
        of={"abort": examples.UPLOAD_ID},
        codes=(*_UPLOAD_ID, "upload_gone", "upload_busy"),
        description="Idempotent. A PUT that commits cannot be taken back by it.",
    ),
    _call(
        "batch",
        "Many initiates and completes at once",
        (BatchRequest,),
        Answer(
            status=200,
            description="One result for each item, in the same order: its own answer or problem.",
            models=(BatchAnswer,),
            examples={"results": examples.BATCH_RESULTS},
        ),
        of={"two": examples.BATCH},
        codes=(),
    ),
)

_FILES = (
    _call(
        "access_url",
        "A signed GET of a name",
        (AccessUrlRequest,),
        Answer(
            status=200,
            description="Whoever holds the URL can read the file until it expires.",
            models=(AccessUrlAnswer,),
            headers=_NOT_KEPT,
            examples={"url": examples.ACCESS},
        ),
        of={"access": examples.ACCESS_WISH},
        codes=(*_NAME, "not_found"),
        tag="Files",
    ),
    Operation(
        id="list",
        method="get",
        path="/files",
        tag="Files",
        summary="List",
        description="Only what the caller may list. A page may be short, even empty, and still have a cursor.",
        parameters=(
            Parameter(name="prefix", place="query", description="Only names that begin with it."),
            Parameter(
                name="delimiter",
                place="query",
                description="Folds what lies deeper into `prefixes`.",
                schema={"type": "string", "enum": ["/"]},
            ),
            Parameter(name="cursor", place="query", description="Of the page before, as it came."),
            Parameter(
                name="limit",
                place="query",
                description="The most files and prefixes of a page.",
                schema={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
            ),
        ),
        answers=(
            Answer(
                status=200,
                description="A page; `cursor` is null at the end.",
                models=(ListAnswer,),
                examples={"page": examples.LISTING},
            ),
        ),
        own_codes=("name_invalid", "name_reserved", "cursor_invalid"),
    ),
    Operation(
        id="download",
        method="get",
        path="/files/{name}",
        tag="Files",
        summary="Redirect to the bytes",
        description="Do not send your token along to where it leads.",
        parameters=(_NAME_IN_PATH,),
        answers=(
            Answer(
                status=302,
                description="To a signed GET.",
                headers=(Header(name="Location", description="The signed URL."), *_NOT_KEPT),
            ),
        ),
        own_codes=(*_NAME, "not_found"),
    ),
    Operation(
        id="stat",
        method="head",
        path="/files/{name}",
        tag="Files",
        summary="Describe",
        description="A problem's code is in `X-Putgate-Code`, as the answer to a HEAD has no body.",
        parameters=(_NAME_IN_PATH,),
        answers=(
            Answer(
                status=200,
                description="The file, in headers.",
                headers=(
                    Header(name=HEADER_SIZE, description="Bytes.", type="integer"),
                    Header(name=HEADER_VERSION, description="An opaque tag of the present content."),
                    Header(name="ETag", description="The version.", always=False),
                    Header(name="Last-Modified", description="When it was written."),
                    Header(name="Content-Type", description="Of the file."),
                    Header(name="Cache-Control", description="`no-store`."),
                    Header(name=HEADER_FILE_HASH, description="Of files that Putgate stored.", always=False),
                    Header(
                        name=HEADER_PART_SIZE,
                        description="Of files that Putgate stored.",
                        always=False,
                        type="integer",
                    ),
                ),
            ),
        ),
        own_codes=(*_NAME, "not_found"),
    ),
    Operation(
        id="delete",
        method="delete",
        path="/files/{name}",
        tag="Files",
        summary="Remove",
        parameters=(
            _NAME_IN_PATH,
            Parameter(name="If-Match", place="header", description="A version; only that is removed."),
        ),
        answers=(Answer(status=204, description="Removed."),),
        own_codes=(*_NAME, "not_found", "precondition_failed", "precondition_unsupported"),
    ),
)

_CONTRACT = (
    Operation(
        id="openapi",
        method="get",
        path="/openapi.json",
        tag="Contract",
        summary="This document",
        public=True,
        parameters=(_IF_NONE_MATCH,),
        answers=(
            Answer(status=200, description="OpenAPI 3.1.", content_type="application/json", headers=(_ETAG, _CACHED)),
            Answer(status=304, description="The copy is still good.", headers=(_ETAG, _CACHED)),
        ),
    ),
    Operation(
        id="docs",
        method="get",
        path="/docs",
        tag="Contract",
        summary="This document as a page",
        public=True,
        parameters=(_IF_NONE_MATCH,),
        answers=(
            Answer(
                status=200,
                description="HTML that asks for nothing else.",
                content_type="text/html",
                headers=(_ETAG, _CACHED, Header(name="Content-Security-Policy", description="Nothing is loaded.")),
            ),
            Answer(status=304, description="The copy is still good.", headers=(_ETAG, _CACHED)),
        ),
    ),
)

OPERATIONS: tuple[Operation, ...] = (*_UPLOADS, *_FILES, *_CONTRACT)
