"""The OpenAPI 3.1 document: the table of operations, the schemas and the codes put together. Pure."""

from __future__ import annotations

import json
from typing import Any

from putgate_api.contract.operations import OPERATIONS, Answer, Header, Operation, Parameter
from putgate_api.contract.schemas import reference, schemas
from putgate_protocol.problems import HEADER_CODE, STATUS

Json = dict[str, Any]

DEFAULT_SERVER = "/"
"""Where the document came from: right wherever nobody has said what `public_url` is."""

_ABOUT = (
    "Files straight into object storage, over presigned, checksum-bound PUTs. Call `part_limit`, cut the file by its "
    "rule, hash the parts, `initiate_multipart_upload`, send each signed part exactly as it stands, "
    "`complete_multipart_upload`. Times are RFC 3339 in UTC, sizes are bytes, hashes lower-case hex SHA-256. Unknown "
    "fields are ignored on both sides. A failure is a problem (RFC 9457) with a stable `code`."
)

_STATUSES = {
    400: "The request can never succeed as it is.",
    401: "No, or no valid, credentials.",
    403: "The caller may not do this.",
    404: "There is no such thing.",
    409: "The present state does not allow it.",
    410: "The upload has ended; initiate it again.",
    412: "A precondition does not hold.",
    413: "The file or the request's body is too large.",
    429: "Slow down; `retry_after` says for how long.",
    500: "The server failed.",
    501: "This store cannot keep such a precondition.",
    502: "The store refused.",
    503: "Not at present; try again after `retry_after`.",
}

_REQUEST_ID = Parameter(
    name="X-Request-Id",
    place="header",
    description="The caller's own id of this request, for both sides' logs: up to 64 of `A-Z a-z 0-9 . _ : -`.",
    schema={"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
)


def document(server: str) -> Json:
    """`server`: the URL that calls are appended to."""
    paths: Json = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Putgate",
            "version": "1",
            "summary": "The wire protocol",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server}],
        "security": [{"bearer": []}],
        "tags": [{"name": name} for name in dict.fromkeys(operation.tag for operation in OPERATIONS)],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "parameters": {"RequestId": _parameter(_REQUEST_ID)},
            "headers": {
                "Code": {"description": "The problem's code.", "required": True, "schema": {"type": "string"}},
                "RetryAfter": {"description": "Whole seconds, where a retry helps.", "schema": {"type": "integer"}},
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def text(of: Json) -> str:
    """As it is written and served."""
    return json.dumps(of, indent=1, ensure_ascii=False) + "\n"


def _operation(operation: Operation) -> Json:
    found: Json = {"operationId": operation.id, "tags": [operation.tag], "summary": operation.summary}
    if operation.description:
        found["description"] = operation.description
    if operation.public:
        found["security"] = []
    found["parameters"] = [
        *map(_parameter, operation.parameters),
        {"$ref": "#/components/parameters/RequestId"},
    ]
    if operation.requests:
        shapes = [reference(model.__name__) for model in operation.requests]
        content: Json = {"schema": shapes[0] if len(shapes) == 1 else {"anyOf": shapes}}
        content["examples"] = {name: {"value": value} for name, value in operation.request_examples.items()}
        found["requestBody"] = {"required": True, "content": {"application/json": content}}
    found["responses"] = {str(answer.status): _answer(answer) for answer in operation.answers}
    found["responses"] |= _problems(operation)
    return found


def _parameter(parameter: Parameter) -> Json:
    found: Json = {"name": parameter.name, "in": parameter.place, "description": parameter.description}
    if parameter.place == "path":
        found["required"] = True
    found["schema"] = dict(parameter.schema)
    if parameter.example is not None:
        found["example"] = parameter.example
    return found


def _answer(answer: Answer) -> Json:
    found: Json = {"description": answer.description}
    found["headers"] = {header.name: _header(header) for header in answer.headers}
    if answer.models:
        content: Json = {"schema": _one_of([model.__name__ for model in answer.models])}
        content["examples"] = {name: {"value": value} for name, value in answer.examples.items()}
        found["content"] = {"application/json": content}
    elif answer.content_type is not None:
        kind = "object" if answer.content_type == "application/json" else "string"
        found["content"] = {answer.content_type: {"schema": {"type": kind}}}
    if not found["headers"]:
        del found["headers"]
    return found


def _header(header: Header) -> Json:
    return {"description": header.description, "required": header.always, "schema": {"type": header.type}}


def _one_of(names: list[str]) -> Json:
    if len(names) == 1:
        return reference(names[0])
    return {"oneOf": [reference(name) for name in names]}


def _problems(operation: Operation) -> Json:
    by_status: dict[int, list[str]] = {}
    for code in STATUS:
        if code in operation.codes:
            by_status.setdefault(STATUS[code], []).append(code)
    return {str(status): _problem(operation, status, codes) for status, codes in sorted(by_status.items())}


def _problem(operation: Operation, status: int, codes: list[str]) -> Json:
    found: Json = {
        "description": f"{_STATUSES[status]} {', '.join(f'`{code}`' for code in codes)}",
        "headers": {HEADER_CODE: {"$ref": "#/components/headers/Code"}},
    }
    if status in {409, 429, 503}:
        found["headers"]["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    if status == 401:
        found["headers"]["WWW-Authenticate"] = {
            "description": "`Bearer`.",
            "required": True,
            "schema": {"type": "string"},
        }
    if operation.method != "head":
        of_these = {"properties": {"status": {"const": status}, "code": {"enum": codes}}}
        schema = {"allOf": [reference("Problem"), of_these]}
        found["content"] = {"application/problem+json": {"schema": schema}}
    return found
