"""A container's root: this machine's files as they are, with what a kubelet would mount into them.

There is no image: the programs are those of this checkout. Every folder of the machine appears as an overlay whose
changes are kept on a tmpfs, so a container writes what it likes and nothing of it is seen outside. A kernel overlays
only folders without mounts below them (in a user namespace); the others are made again, entry by entry.

It runs in a mount namespace of the container's own, and must not be called in another.
"""

from __future__ import annotations

import ctypes
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MS_RDONLY = 1
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
CLONE_NEWNS = 0x0002_0000

_KEPT_FLAGS = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC
"""A remount in a user namespace must repeat what the mount was locked with."""

_KERNEL_FOLDERS = ("/proc", "/sys", "/dev")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """`source`: a file or folder outside. `target`: the absolute path inside."""

    source: str
    target: str
    read_only: bool


def new_mount_namespace() -> None:
    _check(_libc.unshare(CLONE_NEWNS), "unshare")


def enter_mount_namespace(pid: int) -> None:
    """Enter that of the process `pid`."""
    descriptor = os.pidfd_open(pid)
    try:
        _check(_libc.setns(descriptor, CLONE_NEWNS), "setns")
    finally:
        os.close(descriptor)


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str = "") -> None:
    words = [word.encode() if word is not None else None for word in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), data.encode()), f"mount {target}")


def build_root(root: Path, *, mounts: list[Mount], opened: list[str], read_only: bool) -> None:
    """Make `root`/root what the container sees; `root` is an empty folder on a tmpfs.

    `opened`: folders that any user must get through to, such as that of the interpreter. A volume's source is visible
    outside of the container and is not touched.
    """
    inside = root / "root"
    inside.mkdir(parents=True)
    # The paths of a machine may lead through links (/var/run); a mount must not replace them.
    targets = {each: os.path.realpath(each.target) for each in mounts}
    folders = [*opened, *(target for each, target in targets.items() if Path(each.source).is_dir())]
    files = [target for each, target in targets.items() if not Path(each.source).is_dir()]
    mirror = _Mirror(inside, root / "changes", folders, files, read_only)
    # A mount of its own, so that it can be made read-only.
    mount(str(inside), str(inside), flags=MS_BIND)
    mirror.folder("/")
    _devices(inside)
    _processes(inside)
    mount("/sys", f"{inside}/sys", flags=MS_BIND | MS_REC)
    for each, target in sorted(targets.items(), key=lambda item: item[1].count("/")):
        _volume(inside, each, target)
    for path in opened:
        # A volume may hide the programs, such as one on /tmp a checkout in /tmp; an image's programs it would not.
        if any(_is_below(path, target) for target in targets.values()):
            _volume(inside, Mount(source=path, target=path, read_only=True), path)
    if read_only:
        mount(None, str(inside), flags=MS_REMOUNT | MS_BIND | MS_RDONLY)


class _Mirror:
    def __init__(self, inside: Path, changes: Path, folders: list[str], files: list[str], read_only: bool) -> None:
        self._inside, self._changes, self._read_only = inside, changes, read_only
        self._folders, self._files = folders, files
        # The tmpfs that the roots themselves are on is the stand-in's, and not the machine's.
        own = max((point for point in _mount_points() if _is_below(str(inside), point)), key=len)
        self._mount_points = [point for point in _mount_points() if not _is_below(point, own) and point != own]
        self._overlays = 0

    def folder(self, path: str) -> None:
        target = self._inside / path.lstrip("/")
        target.mkdir(exist_ok=True)
        if not any(_is_below(point, path) for point in self._mount_points):
            self._overlay(path, target)
            return
        if path not in _KERNEL_FOLDERS:
            with suppress(PermissionError), os.scandir(path) as entries:
                for entry in entries:
                    self._entry(entry)
        self._prepare(target, path)

    def _entry(self, entry: os.DirEntry[str]) -> None:
        target = self._inside / entry.path.lstrip("/")
        if entry.is_symlink():
            target.symlink_to(Path(entry.path).readlink())
        elif entry.path in _KERNEL_FOLDERS:
            target.mkdir()
        elif entry.is_dir():
            self.folder(entry.path)
        else:
            target.touch()
            mount(entry.path, str(target), flags=MS_BIND)

    def _overlay(self, path: str, target: Path) -> None:
        self._overlays += 1
        upper = self._changes / str(self._overlays)
        work = self._changes / f"{self._overlays}-work"
        upper.mkdir(parents=True)
        work.mkdir()
        _copy_mode(Path(path), upper)
        self._prepare(upper, path)
        layers = f"lowerdir={path},upperdir={upper},workdir={work},userxattr"
        mount("overlay", str(target), "overlay", MS_RDONLY if self._read_only else 0, layers)

    def _prepare(self, top: Path, path: str) -> None:
        """Make the folders and mount points below `path` in `top`, which is where `path` is written to.

        Before an overlay is mounted, since in a user namespace nobody may write into other users' folders.
        """
        for wanted in self._folders:
            if _is_below(wanted, path):
                _make_folders(top, path, wanted)
        for wanted in self._files:
            if _is_below(wanted, path):
                parent = _make_folders(top, path, os.path.dirname(wanted))  # noqa: PTH120
                if not os.path.lexists(wanted):
                    (parent / Path(wanted).name).touch()


def _make_folders(top: Path, path: str, wanted: str) -> Path:
    made, seen = top, Path(path)
    for part in Path(wanted).relative_to(path).parts:
        made, seen = made / part, seen / part
        if not made.exists():
            made.mkdir()
            _copy_mode(seen, made)
    return made


def _copy_mode(seen: Path, made: Path) -> None:
    """As on the machine, but everybody may pass."""
    mode = stat.S_IMODE(seen.stat().st_mode) if seen.is_dir() else 0
    made.chmod(mode | 0o755)


def _devices(inside: Path) -> None:
    devices = inside / "dev"
    devices.mkdir(exist_ok=True)
    mount("tmpfs", str(devices), "tmpfs", 0, "mode=0755")
    for name in _DEVICES:
        (devices / name).touch()
        mount(f"/dev/{name}", str(devices / name), flags=MS_BIND)
    for name, target in _DEVICE_LINKS.items():
        (devices / name).symlink_to(target)
    (devices / "shm").mkdir()
    (devices / "shm").chmod(0o1777)


def _processes(inside: Path) -> None:
    """The pod's own processes; where a machine hides parts of its /proc, a new one is refused, and its own must do."""
    try:
        mount("proc", f"{inside}/proc", "proc")
    except PermissionError:
        mount("/proc", f"{inside}/proc", flags=MS_BIND | MS_REC)


def _volume(inside: Path, volume: Mount, target: str) -> None:
    path = inside / target.lstrip("/")
    if not os.path.lexists(path):
        # Below another volume, or in /dev: everything else was prepared.
        path.parent.mkdir(parents=True, exist_ok=True)
        if Path(volume.source).is_dir():
            path.mkdir()
        else:
            path.touch()
    mount(volume.source, str(path), flags=MS_BIND | MS_REC)
    if volume.read_only:
        kept = os.statvfs(path).f_flag & _KEPT_FLAGS
        mount(None, str(path), flags=MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def _mount_points() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    # Octal escapes stand for white space in paths.
    points = (line.split(" ")[4] for line in lines)
    return [point.encode().decode("unicode_escape") for point in points]


def _is_below(path: str, folder: str) -> bool:
    return path != folder and path.startswith(folder.rstrip("/") + "/")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
