"""What a ServiceAccount token says, judged: a pure function from claims and the clock to an identity or a refusal.

Nothing here is believed before the signature was checked; the details of a refusal show what is expected, and of the
token nothing but its times.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from putgate_api.auth.authenticate import NotAuthenticated
from putgate_api.auth.caller import Identity

LEEWAY = 10.0
"""Seconds by which clocks of a cluster may differ. More would let tokens live on after their end."""

_FOREVER = 2**53
"""Seconds; no token says more, and no number beyond it is exact."""

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_SUBJECT = re.compile(rf"system:serviceaccount:({_LABEL}):({_LABEL}(?:\.{_LABEL})*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What every token must say. `max_lifetime`: from its making to its end."""

    issuer: str
    audience: str
    max_lifetime: timedelta


def judge(claims: Mapping[str, Any], expected: Expected, now: float) -> Identity:
    """Raises `NotAuthenticated`. `now`: seconds since the epoch."""
    _issuer(claims, expected)
    _audience(claims, expected)
    _times(claims, expected, now)
    subject = claims.get("sub")
    found = _SUBJECT.fullmatch(subject) if isinstance(subject, str) else None
    if found is None:
        raise NotAuthenticated("subject", "the token is not a ServiceAccount's")
    assert isinstance(subject, str)
    namespace = found[1]
    return Identity(
        issuer=expected.issuer,
        subject=subject,
        groups=frozenset({"system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"}),
        namespace=namespace,
        service_account=found[2],
        node=_node(claims),
    )


def _issuer(claims: Mapping[str, Any], expected: Expected) -> None:
    if claims.get("iss") != expected.issuer:
        raise NotAuthenticated("issuer", f"the token is not of this cluster, whose issuer is {expected.issuer}")


def _audience(claims: Mapping[str, Any], expected: Expected) -> None:
    """Ours and no other: a token that is good elsewhere too could be used there by whoever sees it here."""
    audience = claims.get("aud")
    if audience not in (expected.audience, [expected.audience]):
        among = isinstance(audience, list) and expected.audience in audience
        how = "is for other audiences too; it must be for" if among else "is for another audience; it must be for"
        raise NotAuthenticated(
            "audience",
            f"the token {how} {expected.audience} alone (a projected ServiceAccount token with that `audience`)",
        )


def _times(claims: Mapping[str, Any], expected: Expected, now: float) -> None:
    issued, expires = _seconds(claims, "iat"), _seconds(claims, "exp")
    begins = _seconds(claims, "nbf") if "nbf" in claims else issued
    if issued is None or expires is None or begins is None:
        raise NotAuthenticated("lifetime", "the token does not say when it was made and when it ends")
    if expires + LEEWAY <= now:
        raise NotAuthenticated("expired", f"the token expired {round(now - expires)} seconds ago; read it again")
    if max(begins, issued) - LEEWAY > now:
        ahead = round(max(begins, issued) - now)
        raise NotAuthenticated("not_yet_valid", f"the token holds only in {ahead} seconds; is a clock wrong?")
    longest = expected.max_lifetime.total_seconds()
    if expires - issued > longest:
        raise NotAuthenticated(
            "lifetime",
            f"the token was made to live {round(expires - issued)} seconds; {round(longest)} are the most: "
            "lower expirationSeconds",
        )


def _seconds(claims: Mapping[str, Any], claim: str) -> float | None:
    value = claims.get(claim)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_FOREVER < value < _FOREVER:
        return None
    return float(value)


def _node(claims: Mapping[str, Any]) -> str | None:
    """The claim `kubernetes.io.node.name` of a running pod's token. Anybody who may make tokens can bind one to a node,
    but only the kubelet makes those of the pods that it runs.
    """
    bound = claims.get("kubernetes.io")
    pod, node = (_name(bound, kind) for kind in ("pod", "node"))
    return None if pod is None else node


def _name(bound: Any, kind: str) -> str | None:
    inner = bound.get(kind) if isinstance(bound, dict) else None
    name = inner.get("name") if isinstance(inner, dict) else None
    return name if isinstance(name, str) else None
