"""The bearer token, read again when its file changes, so that whoever rotates it need not restart the daemon."""

from __future__ import annotations

import os
from pathlib import Path

from putgate_daemon.errors import TokenError


class TokenFile:
    """Called before each request. Shows nothing of the token."""

    __slots__ = ("_path", "_seen", "_token")

    def __init__(self, path: Path) -> None:
        """Raises `TokenError`."""
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._token = ""
        try:
            self._read()
        except OSError as error:
            raise TokenError(f"token file {path}: {error.strerror}") from error
        if not self._token:
            raise TokenError(f"token file {path} holds no token: one line of printable ASCII")

    def __call__(self) -> str:
        """The newest token. While the file is away or empty, as in the middle of a rotation, the last one holds."""
        try:
            self._read()
        except OSError:
            return self._token
        return self._token

    def _read(self) -> None:
        found = self._path.stat()
        seen = (found.st_mtime_ns, found.st_size, found.st_ino)
        if seen != self._seen:
            token = self._path.read_text("ascii", "replace").strip()
            usable = token.isascii() and token.isprintable() and " " not in token
            self._token, self._seen = token if token and usable else self._token, seen

    def __repr__(self) -> str:
        return f"TokenFile({os.fspath(self._path)!r})"
