"""A file's content as a value that is read again when the file changes.

Used for what changes while the program runs: tokens, upload keys. A change that cannot be read fails closed: the
old value is not used any longer, since it may hold what was just revoked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Unreadable(Exception):
    """The file is missing or wrong; the message says which file and why, never its content."""


class Reloading(Generic[Value]):
    """`parse` turns the file's text into the value and raises `ValueError` with what is wrong."""

    def __init__(self, path: Path, parse: Callable[[str], Value]) -> None:
        self._path = path
        self._parse = parse
        self._seen: tuple[int, int, int] | None = None
        self._value: Value | None = None
        self._failure: str | None = None

    def current(self) -> Value:
        """The present value; raises `Unreadable`. One stat when nothing has changed."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise Unreadable(f"{self._path}: {os.strerror(error.errno or 0)}") from None
        seen = (status.st_mtime_ns, status.st_ino, status.st_size)
        if seen != self._seen:
            self._read()
            self._seen = seen
        if self._value is None:
            raise Unreadable(self._failure or f"{self._path}: not read yet")
        return self._value

    def _read(self) -> None:
        self._value = None
        try:
            self._value = self._parse(self._path.read_text(encoding="utf-8"))
            self._failure = None
        except UnicodeDecodeError:
            self._failure = f"{self._path}: is not UTF-8 text"
        except OSError as error:
            self._failure = f"{self._path}: {os.strerror(error.errno or 0)}"
        except ValueError as error:
            self._failure = f"{self._path}: {error}"
