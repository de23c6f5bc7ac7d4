"""Where an S3 driver's credentials come from: the SDK's own chain, or files that are read again when they change.

Both are used twice: by aiobotocore for control calls and by the signer for URLs, so that a rotated secret reaches
both without a restart. Nothing here logs, and no error holds a file's content.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from aiobotocore.session import AioSession
from botocore.credentials import ReadOnlyCredentials

from putgate_protocol.settings.api import Credentials as CredentialSettings
from putgate_storage.errors import Permanent, Transient
from putgate_storage.s3.errors import LIBRARY_ERRORS
from putgate_storage.s3.sigv4 import Credentials
from putgate_storage.store import CredentialMark

_LOOK_EVERY = 1.0
"""Seconds between two looks at the files: a rotation is noticed at once for people, and costs no call per URL."""

_READINGS = 5
"""How often files that change while they are read are read again, before the next look has to do it."""


class CredentialSource:
    """Present credentials for the signer. `session`: what the control client is made from."""

    def __init__(self, session: AioSession, files: FileCredentials | None) -> None:
        self.session = session
        self._files = files
        self._salt = secrets.token_bytes(32)

    async def current(self) -> Credentials:
        """Refreshed when they are about to expire. Raises `Permanent` where there are none, `Transient` where their
        source does not answer.
        """
        try:
            held = self._files or await self.session.get_credentials()
            if held is None:
                raise Permanent("no credentials for the store found in the environment", code="NoCredentials")
            frozen = await held.get_frozen_credentials()
            if not (frozen.access_key and frozen.secret_key):
                raise Permanent("the store's credentials are incomplete", code="NoCredentials")
        except LIBRARY_ERRORS as error:
            name = type(error).__name__
            raise Transient(f"credentials for the store cannot be read: {name}", code=name) from error
        return Credentials(
            access_key=frozen.access_key,
            secret_key=frozen.secret_key,
            token=frozen.token or None,
            expires_at=_expiry(held),
        )

    async def mark(self) -> CredentialMark:
        """Temporary credentials are marked by the role that they are of: they change by the hour, and are no news."""
        held = await self.current()
        if held.expires_at is not None:
            role = f"role {os.environ.get('AWS_ROLE_ARN', '')}"
            return CredentialMark(identity=_digest(role), value=role)
        whole = "\0".join((held.access_key, held.secret_key, held.token or ""))
        value = hmac.new(self._salt, whole.encode(), hashlib.sha256).hexdigest()
        return CredentialMark(identity=_digest(f"key {held.access_key}"), value=value)


def credential_source(settings: CredentialSettings) -> CredentialSource:
    """Raises `Permanent` where the files cannot be read."""
    session = AioSession()
    if settings.type == "Environment":
        return CredentialSource(session, None)
    assert settings.access_key_id_file is not None
    assert settings.secret_access_key_file is not None
    files = FileCredentials(settings.access_key_id_file, settings.secret_access_key_file, settings.session_token_file)
    session.get_component("credential_provider").insert_before("env", _FileProvider(files))
    return CredentialSource(session, files)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _expiry(held: object) -> datetime | None:
    """The expiry of temporary credentials: botocore keeps it in a private field of its refreshable kinds, and offers
    no other way to learn it.
    """
    expiry = getattr(held, "_expiry_time", None)
    return expiry if isinstance(expiry, datetime) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stamp:
    """What tells that a file was replaced or written: Kubernetes swaps a link, people edit in place."""

    inode: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> _Stamp:
        stat = path.stat()
        return cls(inode=stat.st_ino, mtime_ns=stat.st_mtime_ns)


class FileCredentials:
    """Credentials in one file per value, in the shape that aiobotocore asks before each call.

    Files that are swapped together, as Kubernetes does, are read as they belong together. While somebody has
    replaced only some of them by hand, the store refuses the mixture for a moment; the next look has all of them.
    """

    method = "putgate-files"
    account_id = None

    def __init__(self, access_key: Path, secret_key: Path, token: Path | None) -> None:
        self._paths = (access_key, secret_key, *([token] if token is not None else []))
        self._stamps: tuple[_Stamp, ...] = ()
        self._next_look = 0.0
        self.access_key, self.secret_key, self.token = self._values()

    def get_account_id(self) -> None:
        """Files name no account; aiobotocore asks for one to choose an endpoint."""

    def get_deferred_property(self, name: str) -> Callable[[], object]:
        return lambda: getattr(self, name)

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        if time.monotonic() >= self._next_look:
            self._look()
        return ReadOnlyCredentials(self.access_key, self.secret_key, self.token, None)

    def _look(self) -> None:
        """A file that is missing or empty just now is being replaced: what is held stays until the next look."""
        self._next_look = time.monotonic() + _LOOK_EVERY
        try:
            if _stamps(self._paths) == self._stamps:
                return
            self.access_key, self.secret_key, self.token = self._values()
        except (Permanent, OSError):
            return

    def _values(self) -> tuple[str, str, str | None]:
        access, secret, *rest = self._read()
        return access, secret, rest[0] if rest else None

    def _read(self) -> list[str]:
        """Raises `Permanent`, never with what a file holds: `SecretMissing` where there is none of the files,
        `SecretKeyMissing` where some are there and can be read.
        """
        try:
            stamps, values = _stamped(self._paths)
        except OSError as error:
            missing = not any(path.exists() for path in self._paths)
            code = "SecretMissing" if missing else "SecretKeyMissing"
            raise Permanent(f"credentials file {error.filename}: {error.strerror}", code=code) from error
        except UnicodeDecodeError:
            raise Permanent("a credentials file is not text", code="SecretKeyMissing") from None
        for path, value in zip(self._paths, values, strict=True):
            if not value:
                raise Permanent(f"credentials file {path} is empty", code="SecretKeyMissing")
        self._stamps = stamps
        return values


def _stamped(paths: tuple[Path, ...]) -> tuple[tuple[_Stamp, ...], list[str]]:
    """The files' values, all of one moment, and what tells it from the next. Raises `OSError`."""
    for _ in range(_READINGS):
        before = _stamps(paths)
        values = [path.read_text("utf-8").strip() for path in paths]
        if _stamps(paths) == before:
            return before, values
    # They keep changing; stamps of before are past already, so that the next look reads again.
    return before, values


def _stamps(paths: Iterable[Path]) -> tuple[_Stamp, ...]:
    return tuple(_Stamp.of(path) for path in paths)


class _FileProvider:
    """What makes aiobotocore's control client use the files."""

    METHOD = "putgate-files"
    CANONICAL_NAME = None

    def __init__(self, files: FileCredentials) -> None:
        self._files = files

    async def load(self) -> FileCredentials:
        return self._files
