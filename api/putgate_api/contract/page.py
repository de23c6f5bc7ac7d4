"""The document as one page of HTML for people. No script, and nothing from elsewhere: the policy allows neither.

It shows what the document says and knows no call by itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from typing import Any

Json = dict[str, Any]

_CODE = re.compile(r"`([^`]+)`")
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def page(document: Json) -> str:
    style = files(__package__).joinpath("page.css").read_text()
    info = document["info"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(info['title'])}</title>",
        '<link rel="icon" href="data:,">',
        f"<style>{style}</style></head><body>",
        "<nav>",
        *_navigation(document),
        "</nav><main>",
        f"<h1>{escape(info['title'])}: {escape(info['summary'].lower())}, version {escape(info['version'])}</h1>",
        f"<p>{_prose(info['description'])}</p>",
        _server(document["servers"][0]["url"]),
        *_operations(document),
        "<h2 id=schemas>Schemas</h2>",
        *(_schema(name, schema) for name, schema in document["components"]["schemas"].items()),
        "</main></body></html>\n",
    ]
    return "".join(parts)


def _server(url: str) -> str:
    return (
        f"<p>Server: <code>{escape(url)}</code>. "
        'For programs: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1). '
        "Every call but those under “Contract” needs <code>Authorization: Bearer &lt;token&gt;</code>.</p>"
    )


def security_policy(html: str) -> str:
    """The Content-Security-Policy under which the page is all there is: its own style, and nothing else."""
    hashes = [base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in _STYLE.findall(html)]
    styles = " ".join(f"'sha256-{each}'" for each in hashes)
    return (
        f"default-src 'none'; style-src {styles}; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _each(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _navigation(document: Json) -> Iterator[str]:
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2><ul>"
        for path, method, operation in _each(document):
            if tag["name"] in operation["tags"]:
                yield (
                    f'<li><a href="#{escape(operation["operationId"])}">{_verb(method)} '
                    f"<code>{_breakable(path)}</code></a></li>"
                )
        yield "</ul>"
    yield "<h2><a href=#schemas>Schemas</a></h2><ul>"
    for name in document["components"]["schemas"]:
        yield f'<li><a href="#schema-{escape(name)}"><code>{escape(name)}</code></a></li>'
    yield "</ul>"


def _operations(document: Json) -> Iterator[str]:
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2>"
        for path, method, operation in _each(document):
            if tag["name"] in operation["tags"]:
                yield from _operation(path, method, operation)


def _operation(path: str, method: str, operation: Json) -> Iterator[str]:
    yield (
        f'<section class="operation" id="{escape(operation["operationId"])}">'
        f"<h3>{_verb(method)} <code>{_breakable(path)}</code> <span>{escape(operation['summary'])}</span></h3>"
    )
    if "description" in operation:
        yield f"<p>{_prose(operation['description'])}</p>"
    if own := [parameter for parameter in operation["parameters"] if "name" in parameter]:
        yield "<h4>Parameters</h4>" + _table(
            [(f"<code>{escape(each['name'])}</code>", escape(each["in"]), _prose(each["description"])) for each in own]
        )
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        yield f"<h4>Request: {_type(content['schema'])}</h4>"
        yield from _examples(content)
    for status, answer in operation["responses"].items():
        yield from _answer(int(status), answer)
    yield "</section>"


def _answer(status: int, answer: Json) -> Iterator[str]:
    if status >= 400:
        yield f'<p class="problem"><b>{status}</b> {_prose(answer["description"])}</p>'
        return
    content: Json = next(iter(answer.get("content", {}).values()), {})
    of = f": {_type(content['schema'])}" if content.get("examples") else ""
    yield f"<h4>{status}{of}</h4><p>{_prose(answer['description'])}</p>"
    if "headers" in answer:
        yield _table(
            [
                (
                    f"<code>{escape(name)}</code>",
                    ("" if each["required"] else "Optional. ") + _prose(each["description"]),
                )
                for name, each in answer["headers"].items()
            ]
        )
    yield from _examples(content)


def _examples(content: Json) -> Iterator[str]:
    for name, example in content.get("examples", {}).items():
        shown = json.dumps(example["value"], indent=2, ensure_ascii=False)
        yield f"<details><summary>Example: {escape(name)}</summary><pre>{escape(shown)}</pre></details>"


def _schema(name: str, schema: Json) -> str:
    required = set(schema.get("required", []))
    rows = [
        (
            f"<code>{escape(field)}</code>",
            _type(value),
            "; ".join(filter(None, ("" if field in required else "optional", _bounds(value)))),
        )
        for field, value in schema.get("properties", {}).items()
    ]
    described = f"<p>{_prose(schema['description'])}</p>" if "description" in schema else ""
    return f'<section id="schema-{escape(name)}"><h3>{escape(name)}</h3>{described}{_table(rows)}</section>'


def _type(schema: Json) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            return " or ".join(_type(each) for each in schema[choice])
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(each))}</code>" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if schema.get("type") == "object" and "properties" in schema:
        fields = (f"{escape(name)}: {_type(value)}" for name, value in schema["properties"].items())
        return "{" + ", ".join(fields) + "}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map to {_type(schema['additionalProperties'])}"
    return escape(str(schema.get("format", schema.get("type", "anything"))))


_WORDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "{} or more characters",
    "maxLength": "at most {} characters",
    "minItems": "{} or more items",
    "maxItems": "at most {} items",
    "default": "default {}",
}


def _bounds(value: Json) -> str:
    """What is said of a field beside its type; a bound that only keeps numbers exact says nothing."""
    for choice in value.get("anyOf", []):
        value = {**choice, **value}
    said = [
        form.format(json.dumps(value[key]))
        for key, form in _WORDS.items()
        if key in value and abs(value[key] if isinstance(value[key], int) else 0) < 2**53 - 1
    ]
    return _prose("; ".join([*said, *([value["description"]] if "description" in value else [])]))


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    return "<table>" + "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows) + "</table>"


def _verb(method: str) -> str:
    return f'<b class="verb {escape(method)}">{escape(method.upper())}</b>'


def _breakable(path: str) -> str:
    """With places where a narrow column may break it."""
    return escape(path).replace("/", "/<wbr>").replace("_", "_<wbr>")


def _prose(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text, quote=False))
