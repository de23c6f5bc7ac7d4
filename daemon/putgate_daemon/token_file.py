"""The daemon's bearer token, as a setting: what is wrong with its file is said in the daemon's own words."""

from __future__ import annotations

from pathlib import Path

from putgate.token_file import TokenFile as ClientTokenFile
from putgate_daemon.errors import TokenError


class TokenFile(ClientTokenFile):
    """Called before each request. Shows nothing of the token."""

    def __init__(self, path: Path) -> None:
        """Raises `TokenError`."""
        try:
            super().__init__(path)
        except OSError as error:
            raise TokenError(f"token file {path}: {error.strerror}") from error
        except ValueError as error:
            raise TokenError(f"token file {path} holds no token: one line of printable ASCII") from error
