"""A file's content as a value that is read again when the file changes.

Used for what changes while the program runs: tokens, access rules, upload keys. A change that cannot be read fails
closed: the old value is not used any longer, since it may hold what was just revoked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

Value = TypeVar("Value")

Stamp = tuple[int, int, int]
"""What tells one content of a file from another without reading it: time of change, inode, size."""


class Unreadable(Exception):
    """The file is missing or wrong; the message says which file and why, never its content."""


def stamp(path: Path) -> Stamp:
    """Raises `OSError`."""
    status = path.stat()
    return status.st_mtime_ns, status.st_ino, status.st_size


class Reloading(Generic[Value]):
    """`parse` turns the file's text into the value and raises `ValueError` with what is wrong.

    `told` hears of every turn: the value that was read (again), or why there is none.
    """

    def __init__(
        self, path: Path, parse: Callable[[str], Value], *, told: Callable[[Value | None, str], None] | None = None
    ) -> None:
        self._path = path
        self._parse = parse
        self._told = told
        self._seen: Stamp | None = None
        self._value: Value | None = None
        self._failure = ""

    def current(self) -> Value:
        """The present value; raises `Unreadable`. One stat when nothing has changed."""
        try:
            seen = stamp(self._path)
        except OSError as error:
            self._turn(None, f"{self._path}: {os.strerror(error.errno or 0)}")
            self._seen = None
        else:
            if seen != self._seen:
                self._read()
                self._seen = seen
        if self._value is None:
            raise Unreadable(self._failure)
        return self._value

    def _read(self) -> None:
        try:
            self._turn(self._parse(self._path.read_text(encoding="utf-8")), "")
        except UnicodeDecodeError:
            self._turn(None, f"{self._path}: is not UTF-8 text")
        except OSError as error:
            self._turn(None, f"{self._path}: {os.strerror(error.errno or 0)}")
        except ValueError as error:
            self._turn(None, f"{self._path}: {error}")

    def _turn(self, value: Value | None, failure: str) -> None:
        news = value is not None or failure != self._failure
        self._value, self._failure = value, failure
        if news and self._told is not None:
            self._told(value, failure)
