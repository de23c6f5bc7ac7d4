"""What lies below a folder: its regular files, and what is left out and why. Nothing is opened, no link is followed.

In the byte order of whole paths, because the API looks at a batch of dense, sorted names by few LIST calls. One
folder's names are in memory at a time for each level, never the tree. Blocks; `walked` does that in threads.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

CHUNK = 1000
"""Found at once: as many as one batch takes, so that a hop between threads costs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A regular file. `below`: its path from the folder on. `size`: when it was looked at, bytes."""

    path: bytes
    below: bytes
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    path: bytes
    why: Literal["a symbolic link", "no regular file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A folder that cannot be listed, or something that vanished between two looks."""

    path: bytes
    error: OSError


Item = Found | Skipped | Unreadable


def walk(root: bytes) -> Iterator[Item]:
    """`root` itself may be a link."""
    stack = [iter(_listed(root, b""))]
    while stack:
        item = next(stack[-1], None)
        match item:
            case None:
                stack.pop()
            case bytes():
                stack.append(iter(_listed(root, item)))
            case _:
                yield item


async def walked(root: bytes) -> AsyncIterator[list[Item]]:
    items = walk(root)
    while chunk := await asyncio.to_thread(lambda: list(islice(items, CHUNK))):
        yield chunk


def _listed(root: bytes, below: bytes) -> Iterator[Item | bytes]:
    """What is in a folder; a folder in it comes as its path from the root on, with a slash at its end."""
    try:
        with os.scandir(os.path.join(root, below)) as entries:  # noqa: PTH118 (paths are bytes)
            named = sorted((entry.name + b"/" if _is_folder(entry) else entry.name, entry.path) for entry in entries)
    except OSError as error:
        yield Unreadable(path=os.path.join(root, below).rstrip(b"/") or b"/", error=error)  # noqa: PTH118
        return
    for name, path in named:
        yield below + name if name.endswith(b"/") else _looked_at(path, below + name)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        # Its own look says what is wrong with it.
        return False


def _looked_at(path: bytes, below: bytes) -> Item:
    try:
        status = os.lstat(path)
    except OSError as error:
        return Unreadable(path=path, error=error)
    if stat.S_ISLNK(status.st_mode):
        return Skipped(path=path, why="a symbolic link")
    if not stat.S_ISREG(status.st_mode):
        return Skipped(path=path, why="no regular file")
    return Found(path=path, below=below, size=status.st_size)
