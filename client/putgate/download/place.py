"""Where an unfinished download lies: beside its target, hidden, under a name that the next try finds again.

In a folder that others may write into, what is found there may be somebody else's. It is used only where it is a
plain file of this user, under no other name, and no other download is at work on it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import NamedTuple

from putgate_protocol.names import Name


def check(target: Path) -> None:
    """Raises `OSError` where something else than a file or a link is in the target's place: a rename would put a file
    there, for everybody who uses that device, pipe or socket.
    """
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(target))
    if not stat.S_ISREG(mode) and not (stat.S_ISLNK(mode) and _may_go(target)):
        raise FileExistsError(errno.EEXIST, "not a regular file, so it is not replaced", os.fspath(target))


def _may_go(link: Path) -> bool:
    """Not where it is a device by another name, as /dev/stdout is one, even while it leads to a file."""
    if link.readlink().is_relative_to("/proc"):
        return False
    try:
        mode = link.stat().st_mode
    except OSError:
        # It leads nowhere.
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def permissions(target: Path) -> int | None:
    """Those of the file that is to be replaced: whoever closed it to others wants its new content closed too."""
    try:
        found = target.lstat()
    except FileNotFoundError:
        return None
    return found.st_mode & 0o777 if stat.S_ISREG(found.st_mode) else None


class Place(NamedTuple):
    """`found_again`: whether the next try looks there too."""

    path: Path
    descriptor: int
    found_again: bool


def opened(target: Path, name: Name, mode: int | None) -> Place:
    """What an earlier try has left, or a new file. Where another download is at work on that, or it is not ours
    alone, one under a name that nobody can guess.
    """
    identity = hashlib.sha256(b"\0".join((os.fsencode(target.name), name.raw))).hexdigest()[:16]
    # A name near the limit of the file system leaves no room for additions: the target's own is not used.
    path = target.parent / f".putgate-{identity}.part"
    # Its owner may write it until it is done, or no later try could go on.
    mode = None if mode is None else mode | stat.S_IWUSR | stat.S_IRUSR
    wanted = 0o666 if mode is None else mode
    descriptor = _shared(path, wanted)
    found_again = descriptor is not None
    if descriptor is None:
        path = target.parent / f".putgate-{secrets.token_hex(8)}.part"
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, wanted)
    allow(descriptor, mode)
    return Place(path, descriptor, found_again)


def allow(descriptor: int, mode: int | None) -> None:
    """Exactly this, also what the umask took. A file system may have no permissions; the file is as good."""
    if mode is not None:
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, mode)


def _shared(path: Path, mode: int) -> int | None:
    """The locked file at `path`, or None where somebody else has it."""
    try:
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT, mode)
    except OSError:
        # A link, a folder, somebody else's: not what a download leaves. Whether files can be made here shows next.
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_ours(descriptor, path):
            return descriptor
    except OSError:
        # Locked by another download, or a file system without locks.
        os.close(descriptor)
        return None
    os.close(descriptor)
    return None


def _is_ours(descriptor: int, path: Path) -> bool:
    """Whether the file is at its path (another download may have finished it just now), and nobody else's."""
    status = os.fstat(descriptor)
    return (
        stat.S_ISREG(status.st_mode)
        and is_at(descriptor, path)
        and status.st_nlink == 1
        and status.st_uid == os.geteuid()
    )


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the path leads to this file, and not to nothing or to another's."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def open_private(path: Path, flags: int, mode: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
