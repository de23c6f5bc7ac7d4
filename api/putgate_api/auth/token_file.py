"""Bearer tokens from a file: the hash of each token, whom it stands for, and what they may do.

The file holds no token, only SHA-256 hashes of tokens that were made at random, so reading it grants nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import structlog
from pydantic import Field, field_validator

from putgate_api.auth.authenticate import NotAuthenticated, bearer_token
from putgate_api.auth.caller import Caller, Rule, Verb, owner_id
from putgate_api.reloading import Reloading, Unreadable
from putgate_protocol.names import parse_prefix
from putgate_protocol.problems import problem
from putgate_protocol.report import ReportedCondition
from putgate_protocol.settings.load import SettingsError, SettingsModel, load
from putgate_protocol.settings.quantities import Size

log = structlog.get_logger("putgate.api")

ISSUER = "putgate:file"


class TokenEntry(SettingsModel):
    """One token. Several entries may name one subject: each token then has its own rights, and one owner."""

    subject: Annotated[str, Field(min_length=1, max_length=256)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    verbs: Annotated[list[Verb], Field(min_length=1, max_length=4)]
    prefixes: Annotated[list[str], Field(min_length=1, max_length=256)]
    max_object_size: Size | None = None

    @field_validator("prefixes")
    @classmethod
    def _prefixes(cls, value: list[str]) -> list[str]:
        return [parse_prefix(prefix) for prefix in value]


class Tokens(SettingsModel):
    tokens: Annotated[list[TokenEntry], Field(max_length=10_000)]


class TokenFile:
    """Authenticates by a token file, which is read again when it changes."""

    rules_hash: str | None = None

    def __init__(self, path: Path) -> None:
        self._callers = Reloading(path, _parse, told=_tell)

    async def authenticate(self, authorization: str | None) -> Caller:
        token = bearer_token(authorization)
        try:
            callers = self._callers.current()
        except Unreadable:
            raise problem("not_ready", "the server cannot read its tokens at present", retry_after=5) from None
        if (caller := callers.get(hash_token(token))) is None:
            raise NotAuthenticated("unknown_token", "the token is not known here")
        return caller

    async def keep(self) -> None:
        return

    def condition(self) -> ReportedCondition:
        try:
            self._callers.current()
        except Unreadable as error:
            return ReportedCondition(
                type="Authentication",
                status="False",
                reason="RulesInvalid",
                message=str(error)[:1024],
                user_error=True,
            )
        return ReportedCondition(
            type="Authentication", status="True", reason="Configured", message="the token file is read"
        )

    def check(self) -> None:
        """Read the file now; raises `Unreadable`."""
        self._callers.current()


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def new_token() -> str:
    """A token of 256 random bits."""
    return secrets.token_urlsafe(32)


def _tell(callers: Mapping[str, Caller] | None, failure: str) -> None:
    if callers is None:
        log.error("tokens cannot be read, so nobody of their file can call", reason=failure)


def _parse(text: str) -> Mapping[str, Caller]:
    try:
        entries = load(Tokens, text, origin="tokens", environment={}, env_prefix="").tokens
    except SettingsError as error:
        raise ValueError(str(error)) from None
    callers: dict[str, Caller] = {}
    for entry in entries:
        if entry.sha256 in callers:
            raise ValueError(f"the token of {entry.subject} is named twice")
        rule = Rule(
            name="token-file",
            verbs=frozenset(entry.verbs),
            prefixes=tuple(entry.prefixes),
            max_object_size=entry.max_object_size,
        )
        callers[entry.sha256] = Caller(owner=owner_id(ISSUER, entry.subject), subject=entry.subject, rules=(rule,))
    return callers
