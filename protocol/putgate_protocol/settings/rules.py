"""The file of access rules: written by the operator, read (and read again when it changes) by `putgate-api`."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from putgate_protocol.settings.load import SettingsModel
from putgate_protocol.settings.quantities import Size

Verb = Literal["upload", "download", "list", "delete"]

TEMPLATES = ("namespace", "serviceAccount", "user", "node")
"""What a prefix may name in braces: attributes of the caller."""

MAX_RULES = 256


class Subject(SettingsModel):
    """As in RBAC: `namespace` is a ServiceAccount's, and only a ServiceAccount's."""

    kind: Literal["ServiceAccount", "User", "Group"]
    name: Annotated[str, Field(min_length=1, max_length=253)]
    namespace: Annotated[str, Field(min_length=1, max_length=63)] | None = None

    @model_validator(mode="after")
    def _namespace(self) -> Self:
        if (self.kind == "ServiceAccount") != (self.namespace is not None):
            raise ValueError("a ServiceAccount has a namespace, a User and a Group have none")
        return self


class AccessRule(SettingsModel):
    """What the named subjects may do below the prefixes (empty or ending in `/`). `max_object_size`: bytes."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    subjects: Annotated[list[Subject], Field(min_length=1, max_length=64)]
    verbs: Annotated[list[Verb], Field(min_length=1, max_length=4)]
    prefixes: Annotated[list[Annotated[str, Field(max_length=512)]], Field(min_length=1, max_length=64)]
    max_object_size: Size | None = None


class RulesFile(SettingsModel):
    """`hash`: of the rules, by `rules_hash`; it shows in the report which rules a process has loaded."""

    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    rules: Annotated[list[AccessRule], Field(max_length=MAX_RULES)]


def rules_hash(rules: list[AccessRule]) -> str:
    """The first 16 hex digits of the SHA-256 of the rules' canonical JSON."""
    plain = [rule.model_dump(mode="json", exclude_none=True) for rule in rules]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
