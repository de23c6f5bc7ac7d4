"""Who is calling: an owner id and the rules that hold for them. Says nothing about what they ask for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

Verb = Literal["upload", "download", "list", "delete"]

VERBS: tuple[Verb, ...] = ("upload", "download", "list", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one rule grants: these verbs below these prefixes (encoded, empty or ending in `/`). `max_object_size`:
    bytes, None for the bucket's own limit. `name`: what the audit log calls it.
    """

    verbs: frozenset[Verb]
    prefixes: tuple[str, ...]
    max_object_size: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated subject. `owner`: the stable id under which its uploads are kept."""

    owner: str
    subject: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a token stands for, before any rule is looked at. `namespace` and `service_account` are a ServiceAccount's;
    `node`: where its pod runs, as far as the token says so.
    """

    issuer: str
    subject: str
    groups: frozenset[str] = frozenset()
    namespace: str | None = None
    service_account: str | None = None
    node: str | None = None


def owner_id(issuer: str, subject: str) -> str:
    """SHA-256, in hex, of the JSON array `[issuer, subject]`: two issuers never share an owner."""
    return hashlib.sha256(json.dumps([issuer, subject], separators=(",", ":")).encode()).hexdigest()
