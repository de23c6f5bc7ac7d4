"""A tree → entries: the truth about a folder, as far as one pass of lstat can tell it.

Names are listed with `os.scandir`, in the byte order of whole paths, because the API looks at a batch of dense,
sorted names by few LIST calls. One directory's names are in memory at a time, never the tree. Blocking; runs in
threads. Nothing here hashes, opens or follows a file.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from putgate_daemon.entries import Blocked, Entry
from putgate_daemon.errors import RootMissing
from putgate_daemon.rules import Rules

CHUNK = 1000
"""Entries that planning gets at once: enough to make a thread hop and a journal query cheap, few enough to hold."""

_GONE = (errno.ENOENT, errno.ENOTDIR)


@dataclass(slots=True)
class Tally:
    """What a scan met. `unwanted`: left out by rules; `symlinks` and `specials` are skipped always."""

    files: int = 0
    size: int = 0
    directories: int = 0
    symlinks: int = 0
    specials: int = 0
    unwanted: int = 0
    blocked: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    entries: list[Entry] = field(default_factory=list)
    blocked: list[Blocked] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.entries) + len(self.blocked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What single paths are now. `directories`: to be scanned; `gone`: no longer there, or no longer a plain file."""

    chunk: Chunk
    directories: list[bytes]
    gone: list[bytes]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which directory a folder's path led to: device and inode."""

    device: int
    inode: int


def identify(root: bytes) -> Identity:
    """The folder that is at `root` now. Raises `RootMissing`."""
    try:
        found = os.stat(root)  # noqa: PTH116
        with os.scandir(root):
            pass
    except OSError as error:
        raise RootMissing(error.strerror or str(error.errno)) from error
    return Identity(found.st_dev, found.st_ino)


class Walk:
    """One pass over a tree, or the part of it below `start`. Iterate it once; `tally` is complete at the end."""

    def __init__(
        self, root: bytes, rules: Rules, start: bytes = b"", *, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._root = root
        self._rules = rules
        self._start = start
        self._clock = clock
        self._chunk = Chunk()
        self.tally = Tally()

    def __iter__(self) -> Iterator[Chunk]:
        """Raises `RootMissing` when the root itself cannot be listed."""
        if not self._start:
            identify(self._root)
        base = self._start + b"/" if self._start else b""
        stack = [(base, iter(self._list(base)))]
        while stack:
            base, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
            elif name.endswith(b"/"):
                stack.append((base + name, iter(self._list(base + name))))
            else:
                self._stat(base + name)
            if len(self._chunk) >= CHUNK:
                yield self._take()
        if len(self._chunk):
            yield self._take()

    def _take(self) -> Chunk:
        chunk, self._chunk = self._chunk, Chunk()
        return chunk

    def _list(self, base: bytes) -> list[bytes]:
        """The wanted names of a directory in the order of whole paths; those of directories end in a slash."""
        names: list[bytes] = []
        try:
            with os.scandir(os.path.join(self._root, base)) as found:  # noqa: PTH118 (paths are bytes)
                names.extend(name for item in found if (name := self._sort_out(base, item)) is not None)
        except OSError as error:
            if error.errno not in _GONE:
                self._block(base.rstrip(b"/"), error)
        self.tally.directories += 1
        names.sort()
        return names

    def _sort_out(self, base: bytes, item: os.DirEntry[bytes]) -> bytes | None:
        if item.is_symlink():
            self.tally.symlinks += 1
            return None
        directory = item.is_dir(follow_symlinks=False)
        if not directory and not item.is_file(follow_symlinks=False):
            self.tally.specials += 1
            return None
        if not self._rules.wanted(base + item.name, directory=directory):
            self.tally.unwanted += 1
            return None
        return item.name + b"/" if directory else item.name

    def _stat(self, path: bytes) -> None:
        seen = self._clock()
        try:
            found = os.lstat(os.path.join(self._root, path))  # noqa: PTH118
        except OSError as error:
            if error.errno not in _GONE:
                self._block(path, error)
            return
        if stat.S_ISREG(found.st_mode):
            self.tally.files += 1
            self.tally.size += found.st_size
            self._chunk.entries.append(Entry.of(path, found, seen))

    def _block(self, path: bytes, error: OSError) -> None:
        self.tally.blocked += 1
        self._chunk.blocked.append(Blocked(path=path, why=error.strerror or str(error.errno)))


def look(root: bytes, rules: Rules, paths: Iterable[bytes], *, clock: Callable[[], int] = time.time_ns) -> Looked:
    """What these paths are now; unwanted ones are left out. A path through a symlink counts as gone, as in a scan."""
    looked = Looked(chunk=Chunk(), directories=[], gone=[])
    real: dict[bytes, bool] = {}
    for path in sorted(paths):
        seen = clock()
        try:
            found = os.lstat(os.path.join(root, path))  # noqa: PTH118
        except OSError as error:
            if error.errno in _GONE:
                looked.gone.append(path)
            elif rules.wanted_throughout(path):
                looked.chunk.blocked.append(Blocked(path=path, why=error.strerror or str(error.errno)))
            continue
        if not _reached_plainly(root, path, real):
            looked.gone.append(path)
        elif stat.S_ISDIR(found.st_mode):
            if rules.wanted_throughout(path, directory=True):
                looked.directories.append(path)
        elif not stat.S_ISREG(found.st_mode):
            looked.gone.append(path)
        elif rules.wanted_throughout(path):
            looked.chunk.entries.append(Entry.of(path, found, seen))
    return looked


def _reached_plainly(root: bytes, path: bytes, real: dict[bytes, bool]) -> bool:
    """Whether every directory above `path` is one and no symlink; `real` remembers the answers."""
    end = path.find(b"/")
    while end != -1:
        above = path[:end]
        if above not in real:
            real[above] = _is_directory(os.path.join(root, above))  # noqa: PTH118
        if not real[above]:
            return False
        end = path.find(b"/", end + 1)
    return True


def _is_directory(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def lost(root: bytes, rules: Rules, paths: Iterable[bytes]) -> list[bytes]:
    """Those of `paths` that are gone or no longer wanted."""
    looked = look(root, rules, paths)
    seen = {entry.path for entry in looked.chunk.entries} | {blocked.path for blocked in looked.chunk.blocked}
    return [path for path in paths if path not in seen]
