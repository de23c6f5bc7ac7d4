"""What the Kubernetes API server publishes of its ServiceAccount tokens: their issuer, and the keys that sign them.

Both are asked of the API server itself, never of the issuer's address: a cluster need not reach that, and a token must
not be able to say where its own keys lie. The process's own token is read for this and used for nothing else.
"""

from __future__ import annotations

import json
import ssl
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, RSAKey

ALGORITHMS: Mapping[str, tuple[str, str]] = {
    "RS256": ("RSA", ""),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
}
"""What API servers sign with, and the kind of key that goes with it. Never a shared secret, never none."""

MIN_RSA_BITS = 2048

_TIMEOUT = aiohttp.ClientTimeout(total=10)
_MAX_BYTES = 1024 * 1024
"""Far more than any set of keys; an API server that sends more is not one."""

_DISCOVERY = "/.well-known/openid-configuration"
_KEYS = "/openid/v1/jwks"

Key = RSAKey | ECKey


class Unavailable(Exception):
    """Nothing was learnt. The message says what to look at, never the token. `reason`: as in the report."""

    def __init__(self, reason: Literal["JWKSForbidden", "JWKSUnreachable"], message: str) -> None:
        super().__init__(message)
        self.reason: Literal["JWKSForbidden", "JWKSUnreachable"] = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A published key and the one algorithm that it is used with."""

    algorithm: str
    key: Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The issuer of the cluster's tokens, and its keys by their id."""

    issuer: str
    keys: Mapping[str, SigningKey]


class ApiServer:
    """`token_file` and `ca_file` are read at every fetch: both are rotated."""

    def __init__(self, *, url: str, token_file: Path, ca_file: Path) -> None:
        self._url = url
        self._token_file = token_file
        self._ca_file = ca_file

    async def published(self) -> Published:
        """Raises `Unavailable`."""
        token, trust = self._read()
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, application/jwk-set+json"}
        connector = aiohttp.TCPConnector(ssl=trust, force_close=True)
        async with aiohttp.ClientSession(timeout=_TIMEOUT, connector=connector, headers=headers) as session:
            discovery = await self._get(session, _DISCOVERY)
            keys = await self._get(session, _KEYS)
        issuer = discovery.get("issuer")
        if not isinstance(issuer, str) or not issuer:
            raise self._unusable(_DISCOVERY, "names no issuer")
        found = read_keys(keys)
        if not found:
            raise self._unusable(_KEYS, f"holds no key for {', '.join(ALGORITHMS)}")
        return Published(issuer=issuer, keys=found)

    def _read(self) -> tuple[str, ssl.SSLContext]:
        try:
            token = self._token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable("JWKSUnreachable", f"{self._token_file}: {_why(error)}") from None
        if not token:
            raise Unavailable("JWKSUnreachable", f"{self._token_file}: holds no token")
        try:
            return token, ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:  # as which ssl raises what is no certificate, too
            raise Unavailable("JWKSUnreachable", f"{self._ca_file}: {_why(error)}") from None

    async def _get(self, session: aiohttp.ClientSession, path: str) -> dict[str, Any]:
        try:
            async with session.get(self._url + path, allow_redirects=False) as answer:
                status, body = answer.status, await _bounded(answer)
        except aiohttp.ClientSSLError:
            why = f"its certificate is not one of {self._ca_file}"
            raise Unavailable("JWKSUnreachable", f"{self._url}: {why}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable("JWKSUnreachable", f"{self._url}: {_why(error)}") from None
        if status == 403:
            raise Unavailable(
                "JWKSForbidden",
                f"the API server refuses {path} to this pod's ServiceAccount: bind it, or the group "
                "system:serviceaccounts, to the ClusterRole system:service-account-issuer-discovery",
            )
        if status != 200:
            raise self._unusable(path, f"was answered with HTTP {status}")
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise self._unusable(path, "is no JSON object")
        return document

    def _unusable(self, path: str, why: str) -> Unavailable:
        return Unavailable("JWKSUnreachable", f"{self._url}{path} {why}")


def read_keys(document: Mapping[str, Any]) -> dict[str, SigningKey]:
    """The keys of a JWKS that tokens may be signed with, by id. What is not such a key is left out."""
    keys = document.get("keys")
    found: dict[str, SigningKey] = {}
    for entry in keys if isinstance(keys, list) else []:
        if isinstance(entry, dict) and (key := _signing_key(entry)) is not None:
            found[entry["kid"]] = key
    return found


def _signing_key(entry: dict[str, Any]) -> SigningKey | None:
    if not isinstance(entry.get("kid"), str) or entry.get("use", "sig") != "sig":
        return None
    kind = (entry.get("kty"), entry.get("crv", ""))
    fitting = [name for name, wanted in ALGORITHMS.items() if wanted == kind]
    if not fitting or entry.get("alg", fitting[0]) != fitting[0]:
        return None
    try:
        # Only public members: a document that holds private ones gains nothing by it.
        if kind[0] == "RSA":
            return _rsa(fitting[0], {member: entry[member] for member in ("kty", "n", "e")})
        return SigningKey(
            algorithm=fitting[0],
            key=ECKey.import_key({member: entry[member] for member in ("kty", "crv", "x", "y")}),
        )
    except (JoseError, ValueError, KeyError, TypeError):
        return None


def _rsa(algorithm: str, members: dict[str, Any]) -> SigningKey | None:
    with warnings.catch_warnings():
        # It warns of keys that are too short; they are left out below.
        warnings.simplefilter("ignore", SecurityWarning)
        key = RSAKey.import_key(members)
    return SigningKey(algorithm=algorithm, key=key) if key.raw_value.key_size >= MIN_RSA_BITS else None


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise aiohttp.ClientPayloadError(f"more than {_MAX_BYTES} bytes")
    return bytes(body)


def _why(error: Exception) -> str:
    match error:
        case TimeoutError():
            return "does not answer"
        case UnicodeDecodeError():
            return "is not ASCII text"
        case aiohttp.ClientConnectorError():
            return f"cannot be reached: {error.strerror or 'no such host'}"
        case aiohttp.ClientPayloadError():
            return str(error)
        case OSError() if error.strerror:
            return error.strerror
        case _:
            return type(error).__name__
