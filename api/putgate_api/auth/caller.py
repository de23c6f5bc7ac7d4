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
    bytes, None for the bucket's own limit.
    """

    verbs: frozenset[Verb]
    prefixes: tuple[str, ...]
    max_object_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated subject. `owner`: the stable id under which its uploads are kept."""

    owner: str
    subject: str
    rules: tuple[Rule, ...]


def owner_id(issuer: str, subject: str) -> str:
    """SHA-256, in hex, of the JSON array `[issuer, subject]`: two issuers never share an owner."""
    return hashlib.sha256(json.dumps([issuer, subject], separators=(",", ":")).encode()).hexdigest()
