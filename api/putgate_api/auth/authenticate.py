"""Who is calling, from the `Authorization` header. What they may do is decided elsewhere."""

from __future__ import annotations

from typing import Protocol

from putgate_api.auth.caller import VERBS, Caller, Rule, owner_id
from putgate_protocol.problems import problem


class Authenticator(Protocol):
    def authenticate(self, authorization: str | None) -> Caller:
        """The caller of a request with this header. Raises `unauthenticated`, or `not_ready` where it cannot tell."""
        ...


class Nobody:
    """Every caller is the same, and may do everything: for one machine's own use, on a loopback address only."""

    _caller = Caller(
        owner=owner_id("putgate:none", "anybody"),
        subject="anybody",
        rules=(Rule(verbs=frozenset(VERBS), prefixes=("",)),),
    )

    def authenticate(self, authorization: str | None) -> Caller:
        del authorization
        return self._caller


def bearer_token(authorization: str | None) -> str:
    """The token of a `Bearer` header. Raises `unauthenticated`."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise problem("unauthenticated", "this call needs an `Authorization: Bearer …` header")
    return token.strip()
