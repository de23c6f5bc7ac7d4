"""What is uploaded: a file, or bytes. Reads it and notices when it changes; knows nothing of hashes or HTTP.

One descriptor is used from the first look to the last. What it and the path show before and after must be equal
(size, times, inode): the stat sandwich. Everything here blocks and belongs in a thread.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from putgate.errors import SourceChanged
from putgate_protocol.parts import MIB

PIECE = MIB
"""Bytes read at once."""

HEAP = 64 * 1024
"""Bytes; more gets memory of its own, since what one thread takes from the heap and another gives back stays there."""

TICK_NS = 20_000_000
"""Kernels stamp files by their timer tick, 10 ms at the coarsest. A file changed within the present tick could
change again without any new time to show for it, so reading begins a moment later.
"""

RACY_NS = 2_000_000_000
"""Some file systems stamp by 1 or 2 s. What was read sooner after a change may not be remembered for a restart."""


class Reading(Protocol):
    """One open reading. `change_key`: equal as long as the content is; empty when nothing can vouch for that.
    `racy`: it changed so shortly before that an equal change key later proves nothing.
    """

    @property
    def size(self) -> int: ...

    @property
    def change_key(self) -> str: ...

    @property
    def racy(self) -> bool: ...

    def pread(self, length: int, offset: int) -> bytes | memoryview:
        """Exactly `length` bytes. Raises `SourceChanged` when they are not there any more, `OSError`."""
        ...

    def check(self) -> None:
        """Raises `SourceChanged` when the source is not what it was when it was opened."""
        ...

    def close(self) -> None: ...


class Source(Protocol):
    """Something to upload; `open` may be called again after a failure."""

    def open(self) -> Reading:
        """Begin a reading; the caller closes it. Raises `OSError`, `SourceChanged`."""
        ...


def change_key(status: os.stat_result) -> str:
    """What changes when a file's content does. Never the inode alone: those are used again."""
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"


@dataclass(frozen=True, slots=True)
class FileSource:
    """A regular file. A link at its path is followed only if `follow_symlinks` says so. With `root`, a folder that
    `path` lies below, no link on the way from there is followed either: a daemon that runs with more rights than
    the folder's owner must not be led elsewhere.
    """

    path: bytes | str | os.PathLike[str] | os.PathLike[bytes]
    follow_symlinks: bool = False
    root: bytes | None = None

    def open(self) -> FileReading:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if self.follow_symlinks else os.O_NOFOLLOW)
        if self.root is None:
            descriptor = os.open(self.path, flags)
        else:
            descriptor = _open_below(self.root, os.fsencode(self.path), flags)
        try:
            return FileReading(descriptor, os.fspath(self.path), self.follow_symlinks)
        except BaseException:
            os.close(descriptor)
            raise


def _open_below(root: bytes, path: bytes, flags: int) -> int:
    """Open `path` a segment at a time from `root` on, so that no link on the way is followed. Raises `OSError`."""
    *folders, name = os.path.relpath(path, root).split(b"/")
    within = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            deeper = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)
            os.close(within)
            within = deeper
        return os.open(name, flags, dir_fd=within)
    finally:
        os.close(within)


class FileReading:
    """An open file. Threads may still read when it is closed (a cancelled transfer cannot stop them): the
    descriptor goes with the last of them, so that none ever reads another file under a number used again.
    """

    __slots__ = ("_closed", "_descriptor", "_follow", "_lock", "_path", "_readers", "change_key", "racy", "size")

    def __init__(self, descriptor: int, path: str | bytes, follow: bool) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._closed = False
        self._descriptor = descriptor
        self._path = path
        self._follow = follow
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", path)
        self.size = status.st_size
        self.change_key = change_key(status)
        age = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns)
        self.racy = age < RACY_NS
        if 0 <= age < TICK_NS:
            time.sleep((TICK_NS - age) / 1e9)

    def pread(self, length: int, offset: int) -> bytes:
        with self._held():
            data = os.pread(self._descriptor, length, offset)
            while len(data) < length:
                more = os.pread(self._descriptor, length - len(data), offset + len(data))
                if not more:
                    raise SourceChanged(f"{self}: it was cut short while it was read")
                data += more
            return data

    def check(self) -> None:
        with self._held():
            if change_key(os.fstat(self._descriptor)) != self.change_key:
                raise SourceChanged(f"{self}: it changed while it was read")
        try:
            named = os.stat(self._path) if self._follow else os.lstat(self._path)  # noqa: PTH116 (paths are bytes)
        except FileNotFoundError:
            raise SourceChanged(f"{self}: it was removed while it was read") from None
        if change_key(named) != self.change_key:
            raise SourceChanged(f"{self}: it was replaced while it was read")

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._release()

    @contextmanager
    def _held(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise ValueError(f"{self}: read after it was closed")
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                self._release()

    def _release(self) -> None:
        if self._closed and self._readers == 0:
            os.close(self._descriptor)

    def __str__(self) -> str:
        return os.fsdecode(self._path).encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class BytesSource:
    """Bytes in memory."""

    data: bytes = field(repr=False)

    def open(self) -> BytesReading:
        return BytesReading(self.data, "")


def read_whole(reading: Reading) -> BytesReading:
    """All of a small source in memory, as it was when this returns. Raises `SourceChanged`, `OSError`."""
    held: bytes | mmap.mmap
    if reading.size <= HEAP:
        held = bytes(reading.pread(reading.size, 0))
    else:
        held = mmap.mmap(-1, reading.size)
        for offset in range(0, reading.size, PIECE):
            length = min(PIECE, reading.size - offset)
            held[offset : offset + length] = reading.pread(length, offset)
    reading.check()
    return BytesReading(held, reading.change_key)


class BytesReading:
    """Bytes in memory: given by the caller, or read whole from a file that had this change key then."""

    __slots__ = ("_data", "change_key", "racy", "size")

    def __init__(self, data: bytes | mmap.mmap, key: str) -> None:
        self._data = data
        self.size = len(data)
        self.change_key = key
        self.racy = False

    def pread(self, length: int, offset: int) -> bytes:
        return self._data[offset : offset + length]

    def check(self) -> None:
        """Bytes do not change."""

    def close(self) -> None:
        """Nothing is held open."""
