"""Upload ids: what a client holds of an upload, sealed so that nothing in it can be edited or made up.

A token is base64url of `version · key id · payload · HMAC-SHA-256`. It is never an authorisation: every call
checks the caller again. Keys rotate by being accepted everywhere first, and only then used to sign. Cursors of
listings are sealed by the same keys under another purpose, so neither passes for the other.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from putgate_api.reloading import Unreadable
from putgate_protocol.digests import FileHash
from putgate_protocol.names import Name
from putgate_protocol.problems import Problem, problem

_VERSION = 1
_MAC_BYTES = 32


LEAST_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadKeys:
    """Secrets by key id; `signing` names the one that seals new tokens. `missing`: ids that are accepted too, but
    whose secrets are not there at present; with the reason.
    """

    signing: str
    accepted: Mapping[str, bytes] = field(repr=False)
    missing: Mapping[str, str] = field(default_factory=dict)


def parse_upload_key(text: str) -> bytes:
    """One key, as base64. Raises `ValueError`, which shows nothing of it."""
    try:
        secret = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None
    if len(secret) < LEAST_KEY_BYTES:
        raise ValueError(f"holds {len(secret)} bytes of key; {LEAST_KEY_BYTES} are needed")
    return secret


def parse_upload_keys(text: str) -> UploadKeys:
    """Read lines `<key id> <base64 of at least 32 bytes>`; the first signs. Raises `ValueError`, naming no secret."""
    keys: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        key_id, _, encoded = line.strip().partition(" ")
        try:
            secret = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            raise ValueError(f"line {number}: not `<key id> <base64>`") from None
        if len(secret) < LEAST_KEY_BYTES or not 1 <= len(key_id.encode()) <= 32 or key_id in keys:
            raise ValueError(f"line {number}: a new key id of 1 to 32 bytes and at least 32 bytes of key are needed")
        keys[key_id] = secret
    if not keys:
        raise ValueError("holds no key")
    return UploadKeys(signing=next(iter(keys)), accepted=keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadToken:
    """What an upload id says. `commit`: how the file is published; of a `stream`, whose
    `file_hash` and `size` are those of nothing, by complete. `expires`: the end of the token itself; an open
    session may end earlier and is the one that decides.
    """

    bucket_id: str
    owner: str
    name: Name
    commit: Literal["put", "complete", "stream"]
    nonce: str
    file_hash: FileHash
    size: int
    part_size: int
    expires: datetime
    if_absent: bool = False
    if_match: str | None = None


class Sealer:
    """Seals and opens tokens with the present keys."""

    def __init__(self, keys: Callable[[], UploadKeys]) -> None:
        self._keys = keys

    def present_keys(self) -> UploadKeys:
        """What is loaded now, and what is missing. Raises `Unreadable`."""
        return self._keys()

    def seal_upload(self, token: UploadToken) -> str:
        return self.seal(
            "upload",
            [
                token.bucket_id,
                token.owner,
                base64.b64encode(token.name.raw).decode(),
                token.commit,
                token.nonce,
                str(token.file_hash),
                token.size,
                token.part_size,
                int(token.expires.timestamp()),
                token.if_absent,
                token.if_match,
            ],
        )

    def open_upload(self, text: str, *, bucket_id: str, now: datetime) -> UploadToken:
        """Raises `upload_id_invalid` for what is not ours, `upload_expired` for what is too old."""
        invalid = problem("upload_id_invalid", "this upload_id was not made here, or was cut or changed on its way")
        fields = self.open("upload", text, invalid)
        bucket, owner, name, commit, nonce, file_hash, size, part_size, expires, if_absent, if_match = fields
        if bucket != bucket_id:
            raise invalid
        token = UploadToken(
            bucket_id=bucket,
            owner=owner,
            name=Name.parse(base64.b64decode(name)),
            commit=commit,
            nonce=nonce,
            file_hash=FileHash.parse(file_hash),
            size=size,
            part_size=part_size,
            expires=datetime.fromtimestamp(expires, UTC),
            if_absent=if_absent,
            if_match=if_match,
        )
        if token.expires <= now:
            raise problem("upload_expired", f"the upload of {token.name} has ended; initiate it again")
        return token

    def seal(self, purpose: str, payload: list[Any]) -> str:
        keys = self._keys()
        if keys.signing in keys.missing:
            raise Unreadable(keys.missing[keys.signing])
        key_id = keys.signing.encode()
        body = json.dumps(payload, separators=(",", ":")).encode()
        sealed = bytes((_VERSION, len(key_id))) + key_id + body
        mac = _mac(keys.accepted[keys.signing], purpose, sealed)
        return base64.urlsafe_b64encode(sealed + mac).rstrip(b"=").decode()

    def open(self, purpose: str, text: str, invalid: Problem) -> list[Any]:
        """The payload, or `invalid` raised; `Unreadable` where the key that sealed it is not there at present."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise invalid from None
        if len(raw) < 2 + _MAC_BYTES or raw[0] != _VERSION:
            raise invalid
        sealed, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        key_id = sealed[2 : 2 + sealed[1]].decode("utf-8", "replace")
        keys = self._keys()
        if key_id in keys.missing:
            # It may be good: whether it is can be told when the key is back.
            raise Unreadable(keys.missing[key_id])
        secret = keys.accepted.get(key_id)
        if secret is None or not hmac.compare_digest(mac, _mac(secret, purpose, sealed)):
            raise invalid
        payload: list[Any] = json.loads(sealed[2 + sealed[1] :])
        return payload


def _mac(secret: bytes, purpose: str, sealed: bytes) -> bytes:
    return hmac.digest(secret, purpose.encode() + b"\0" + sealed, hashlib.sha256)
