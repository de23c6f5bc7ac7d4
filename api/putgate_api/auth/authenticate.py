"""Who is calling, from the `Authorization` header. What they may do is decided elsewhere."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Literal, Protocol

from putgate_api.auth.caller import VERBS, Caller, Rule, owner_id
from putgate_protocol.problems import Unauthenticated
from putgate_protocol.report import ReportedCondition

Unknown = Literal[
    "no_token",
    "unknown_token",
    "malformed",
    "algorithm",
    "unknown_key",
    "signature",
    "issuer",
    "audience",
    "expired",
    "not_yet_valid",
    "lifetime",
    "subject",
]
"""Why a caller is not known: few enough to count by."""

_JWT = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
"""Three parts of base64url, the first of a JSON object."""


class NotAuthenticated(Unauthenticated):
    """A 401 whose `reason` can be counted; the detail never shows the token."""

    def __init__(self, reason: Unknown, detail: str) -> None:
        super().__init__("unauthenticated", detail)
        self.reason: Unknown = reason


class Authenticator(Protocol):
    async def authenticate(self, authorization: str | None) -> Caller:
        """The caller of a request with this header. Raises `unauthenticated`, or `not_ready` where it cannot tell."""
        ...

    async def keep(self) -> None:
        """Keep what it needs at hand, for ever; whoever starts this cancels it. Without it everything is fetched when
        a call needs it.
        """
        ...

    def condition(self) -> ReportedCondition:
        """Whether callers can be told apart at present, for the report."""
        ...

    @property
    def rules_hash(self) -> str | None:
        """The hash of the access rules that hold now, where there is a file of rules."""
        ...


class Nobody:
    """Every caller is the same, and may do everything: for one machine's own use, on a loopback address only."""

    rules_hash: str | None = None
    _caller = Caller(
        owner=owner_id("putgate:none", "anybody"),
        subject="anybody",
        rules=(Rule(name="no-auth", verbs=frozenset(VERBS), prefixes=("",)),),
    )

    async def authenticate(self, authorization: str | None) -> Caller:
        del authorization
        return self._caller

    async def keep(self) -> None:
        return

    def condition(self) -> ReportedCondition:
        return ReportedCondition(
            type="Authentication", status="True", reason="Configured", message="every caller is let in, by a flag"
        )


class NoTokens:
    """No kind of token is taken, so every caller is refused: an UploadBucket may ask for that."""

    rules_hash: str | None = None

    async def authenticate(self, authorization: str | None) -> Caller:
        bearer_token(authorization)
        raise NotAuthenticated("unknown_token", "no kind of token is taken here")

    async def keep(self) -> None:
        return

    def condition(self) -> ReportedCondition:
        return ReportedCondition(
            type="Authentication", status="True", reason="NoTokens", message="no kind of token is taken: auth is empty"
        )


class Either:
    """Two kinds of tokens beside each other: what is shaped like a JWT is a ServiceAccount's, all else the file's."""

    def __init__(self, *, accounts: Authenticator, tokens: Authenticator) -> None:
        self._accounts = accounts
        self._tokens = tokens

    async def authenticate(self, authorization: str | None) -> Caller:
        jwt = looks_like_jwt(bearer_token(authorization))
        return await (self._accounts if jwt else self._tokens).authenticate(authorization)

    async def keep(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._accounts.keep())
            group.create_task(self._tokens.keep())

    def condition(self) -> ReportedCondition:
        return _worst([self._accounts.condition(), self._tokens.condition()])

    @property
    def rules_hash(self) -> str | None:
        return self._accounts.rules_hash


def bearer_token(authorization: str | None) -> str:
    """The token of a `Bearer` header. Raises `unauthenticated`."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated("no_token", "this call needs an `Authorization: Bearer …` header")
    return token.strip()


def looks_like_jwt(token: str) -> bool:
    return _JWT.fullmatch(token) is not None


def _worst(conditions: Sequence[ReportedCondition]) -> ReportedCondition:
    return min(conditions, key=lambda one: ("False", "Unknown", "True").index(one.status))
