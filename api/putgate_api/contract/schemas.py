"""The messages' JSON schemas, made by pydantic, and told a little more exactly than it can know.

Pydantic sees the models, not `Message.to_wire`: that answers leave out what says nothing, and so never hold a null.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import JsonSchemaMode, models_json_schema

from putgate_api.contract.operations import OPERATIONS
from putgate_protocol.messages.base import Message
from putgate_protocol.problems import STATUS

Json = dict[str, Any]

_SAYS_NULL = frozenset({("ListAnswer", "cursor")})
"""The only field of an answer whose null means something."""


def reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def schemas() -> Json:
    """Every message by its name, and the problem document."""
    requests = {model for operation in OPERATIONS for model in operation.requests}
    answers = {model for operation in OPERATIONS for answer in operation.answers for model in answer.models}
    found = _generated(requests, "validation")
    found |= {
        name: _as_answered(name, schema)
        for name, schema in _generated(answers, "serialization").items()
        if name not in found
    }
    for schema in found.values():
        _tidy(schema)
    _batch(found)
    return dict(sorted({**found, "Problem": _problem()}.items()))


def _generated(models: set[type[Message]], mode: JsonSchemaMode) -> Json:
    ordered = sorted(models, key=lambda model: model.__name__)
    _, found = models_json_schema([(model, mode) for model in ordered], ref_template="#/components/schemas/{model}")
    return dict(found["$defs"])


def _as_answered(name: str, schema: Json) -> Json:
    """What has a default is always there, unless it is null: then it is left out."""
    required = set(schema.get("required", []))
    for field, value in schema.get("properties", {}).items():
        if (name, field) in _SAYS_NULL:
            required.add(field)
            continue
        if value.get("default") is not None:
            required.add(field)
        _without_null(value)
    if required:
        schema["required"] = [field for field in schema["properties"] if field in required]
    return schema


def _without_null(value: Json) -> None:
    choices = [choice for choice in value.pop("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        value.update(choices[0])
    elif choices:
        value["anyOf"] = choices


def _tidy(schema: Json) -> None:
    """Without titles that repeat a name, and with the rule that a file is named in one of two ways."""
    schema.pop("title", None)
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    for value in schema.get("properties", {}).values():
        value.pop("title", None)
        if "const" in value or value.get("default", 0) is None:
            value.pop("default", None)
    if {"name", "name_b64"} <= set(schema.get("properties", {})):
        schema["oneOf"] = [{"required": ["name"]}, {"required": ["name_b64"]}]


def _batch(found: Json) -> None:
    """A batch takes its items one by one, so its model leaves open what they are."""
    found["BatchRequest"]["properties"]["items"]["items"] = {
        "oneOf": [_item("initiate", "InitiateRequest"), _item("complete", "CompleteRequest")]
    }
    outcomes = ("Exists", "Upload", "Copying", "CompleteAnswer", "Problem")
    found["BatchResult"]["properties"]["body"] = {"anyOf": [reference(name) for name in outcomes]}


def _item(field: str, model: str) -> Json:
    return {
        "type": "object",
        "properties": {field: reference(model)},
        "required": [field],
        "additionalProperties": False,
    }


def _problem() -> Json:
    return {
        "description": "RFC 9457. Decide by `code`, show `detail`, never parse it.",
        "type": "object",
        "properties": {
            "type": {"type": "string", "format": "uri", "description": "`urn:putgate:problem:` and the code."},
            "title": {"type": "string"},
            "status": {"type": "integer", "enum": sorted(set(STATUS.values()))},
            "code": {"type": "string", "enum": list(STATUS)},
            "detail": {"type": "string", "description": "For people."},
            "retry_after": {"type": "number", "minimum": 0, "description": "Seconds, where a retry helps."},
            "request_id": {"type": "string", "description": "Under which the server's log tells of this call."},
            "parts": {"type": "array", "items": {"type": "integer"}, "description": "Missing parts' numbers."},
        },
        "required": ["type", "title", "status", "code", "detail"],
    }
