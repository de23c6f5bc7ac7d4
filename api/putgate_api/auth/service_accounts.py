"""ServiceAccount tokens, checked offline against the keys that the cluster publishes.

A token is good until it ends, whatever became of its pod meanwhile: that is the price of asking nobody, and why long
lives are refused. Who the caller is comes from the token alone, what they may do from the access rules alone.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError

from putgate_api.auth.api_server import ALGORITHMS, SigningKey
from putgate_api.auth.authenticate import NotAuthenticated, bearer_token, looks_like_jwt
from putgate_api.auth.caller import Caller, owner_id
from putgate_api.auth.claims import Expected, judge
from putgate_api.auth.keys import Keys
from putgate_api.auth.rules import RulesWatch
from putgate_protocol.report import ReportedCondition

_EXTENSIONS = frozenset({"crit", "b64", "zip"})
"""Of a token's header: each changes what the signature covers, or how the claims are read."""


class ServiceAccounts:
    """Authenticates ServiceAccounts. `now`: seconds since the epoch, by the clock that tokens are judged by."""

    def __init__(
        self,
        *,
        keys: Keys,
        rules: RulesWatch,
        audience: str,
        max_lifetime: timedelta,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._rules = rules
        self._audience = audience
        self._max_lifetime = max_lifetime
        self._now = now

    async def authenticate(self, authorization: str | None) -> Caller:
        token = bearer_token(authorization)
        algorithm, key_id, issuer = _read(token)
        published = await self._keys.asked(issuer, key_id)
        expected = Expected(issuer=published.issuer, audience=self._audience, max_lifetime=self._max_lifetime)
        key = published.keys.get(key_id)
        if key is None:
            raise _not_ours(issuer, expected)
        identity = judge(_verified(token, algorithm, key), expected, self._now())
        return Caller(
            owner=owner_id(identity.issuer, identity.subject),
            subject=identity.subject,
            rules=self._rules.current().of(identity),
        )

    async def keep(self) -> None:
        await self._keys.keep()

    @property
    def rules_hash(self) -> str | None:
        return self._rules.hash

    def condition(self) -> ReportedCondition:
        """What keeps callers out comes first; keys that are merely old do not."""
        rules = self._rules.condition()
        failure = self._keys.failure
        if rules.status != "True":
            return rules
        if failure is not None and (self._keys.known is None or failure.reason == "JWKSForbidden"):
            return _failed(failure.reason, str(failure))
        if self._keys.known is None:
            message = "the cluster's keys are being read"
            return ReportedCondition(type="Authentication", status="Unknown", reason="JWKSUnreachable", message=message)
        return rules


def _failed(reason: str, message: str) -> ReportedCondition:
    return ReportedCondition(
        type="Authentication",
        status="False",
        reason=reason,
        message=message[:1024],
        user_error=reason == "JWKSForbidden",
    )


def _read(token: str) -> tuple[str, str, str]:
    """Algorithm, key id and issuer as the token has them: by these the key is found, and nothing else is decided."""
    if not looks_like_jwt(token):
        raise NotAuthenticated("malformed", "the token is no ServiceAccount token")
    header, claims, _ = token.split(".")
    head, body = _json(header), _json(claims)
    algorithm, key_id, issuer = head.get("alg"), head.get("kid"), body.get("iss")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise NotAuthenticated("algorithm", f"the token is not signed with one of {', '.join(ALGORITHMS)}")
    if not isinstance(key_id, str) or not isinstance(issuer, str):
        raise NotAuthenticated("malformed", "the token names no key or no issuer")
    if not _EXTENSIONS.isdisjoint(head):
        raise NotAuthenticated("malformed", "the token uses extensions that no API server uses")
    return algorithm, key_id, issuer


def _json(part: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NotAuthenticated("malformed", "the token is no JSON Web Token")
    return found


def _verified(token: str, algorithm: str, key: SigningKey) -> dict[str, Any]:
    """The claims of a token that this very key has signed."""
    if algorithm != key.algorithm:
        raise NotAuthenticated("algorithm", f"the token's key signs with {key.algorithm} only")
    try:
        payload = jws.deserialize_compact(token, key.key, algorithms=[key.algorithm]).payload
    except (JoseError, ValueError):
        raise NotAuthenticated("signature", "the token's signature is wrong") from None
    return _json_bytes(payload)


def _json_bytes(payload: bytes) -> dict[str, Any]:
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise NotAuthenticated("malformed", "the token has no claims")
    return claims


def _not_ours(issuer: str, expected: Expected) -> NotAuthenticated:
    if issuer != expected.issuer:
        return NotAuthenticated("issuer", f"the token is not of this cluster, whose issuer is {expected.issuer}")
    return NotAuthenticated("unknown_key", "the token is signed with a key that this cluster does not publish")
