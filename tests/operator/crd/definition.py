"""The CustomResourceDefinition as the tests look at it: its fields and its rules, each with its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PATH = Path(__file__).parents[3] / "crds" / "uploadbuckets.putgate.io.yaml"

DEFINITION: dict[str, Any] = yaml.safe_load(PATH.read_text())
(VERSION,) = DEFINITION["spec"]["versions"]
SCHEMA: dict[str, Any] = VERSION["schema"]["openAPIV3Schema"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """`path`: `spec.access[].name`; `{}` stands for any key of a map. `required`: by its parent."""

    path: str
    schema: dict[str, Any]
    required: bool = False

    @property
    def leaf(self) -> bool:
        return "properties" not in self.schema and "items" not in self.schema


def fields(path: str = "", schema: dict[str, Any] | None = None, *, required: bool = False) -> Iterator[Field]:
    """Every field below, in order; a list or a map comes before its values."""
    schema = SCHEMA if schema is None else schema
    if path:
        yield Field(path=path, schema=schema, required=required)
    for name, child in schema.get("properties", {}).items():
        yield from fields(f"{path}.{name}".lstrip("."), child, required=name in schema.get("required", ()))
    if "items" in schema:
        yield from fields(f"{path}[]", schema["items"], required=True)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from fields(f"{path}{{}}", schema["additionalProperties"], required=True)


def rules() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every CEL rule with the path that it stands at; the object itself is ``."""
    for place in (Field(path="", schema=SCHEMA), *fields()):
        for rule in place.schema.get("x-kubernetes-validations", ()):
            yield place.path, rule


def kind_of(schema: dict[str, Any]) -> str:
    """For people: `string`, `list of objects`, …"""
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    match schema["type"]:
        case "array":
            return f"list of {kind_of(schema['items'])}s"
        case "object" if "additionalProperties" in schema:
            return f"map of {kind_of(schema['additionalProperties'])}s"
        case "string" if "duration(self)" in str(schema.get("x-kubernetes-validations")):
            return "duration"
        case other:
            return str(other)
