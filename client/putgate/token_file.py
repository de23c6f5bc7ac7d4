"""A bearer token in a file, read again when the file changes, so that whoever rotates it need not restart anything."""

from __future__ import annotations

import os
from pathlib import Path


class TokenFile:
    """Give it to a `Client` as its token; the file is looked at before each call. Shows nothing of the token."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises `OSError`, and `ValueError` where the file holds no token."""
        self._path = Path(path).expanduser()
        self._seen: tuple[int, int, int] | None = None
        self._token = ""
        self._read()

    def __call__(self) -> str:
        """The newest token. While the file is away or holds none, as amid a rotation, the last one holds."""
        try:
            self._read()
        except (OSError, ValueError):
            return self._token
        return self._token

    def _read(self) -> None:
        found = self._path.stat()
        seen = (found.st_mtime_ns, found.st_size, found.st_ino)
        if seen != self._seen:
            self._token = checked_token(self._path.read_text("ascii", "replace").strip())
            self._seen = seen

    def __repr__(self) -> str:
        return f"TokenFile({os.fspath(self._path)!r})"


def checked_token(token: str) -> str:
    """A token as it may stand in a header. Raises `ValueError`, which does not show it."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("a token is one line of printable ASCII without spaces")
    return token
