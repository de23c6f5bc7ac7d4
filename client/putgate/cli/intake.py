"""What `putgate upload` is asked to upload, as jobs: files as they were named, folders as they are walked."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from putgate.cli.report import Report
from putgate.client import as_name
from putgate.upload.job import Job
from putgate.upload.source import FileSource
from putgate.upload.walk import Found, Item, Skipped, Unreadable, walked
from putgate_protocol.names import Name
from putgate_protocol.problems import NameProblem

MakeJob = Callable[[Name, FileSource], Job]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that was named. A link is followed, because somebody has pointed at it."""

    path: bytes
    name: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """`prefix`: what its files' names begin with, empty or ending in `/`."""

    path: bytes
    prefix: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """`paths` and `sizes`: of what is under way alone, so that a large tree needs no more memory than a small one."""

    roots: list[File | Folder]
    make: MakeJob
    report: Report
    paths: dict[Name, bytes] = field(default_factory=dict)
    sizes: dict[Name, int] = field(default_factory=dict)

    async def jobs(self) -> AsyncIterator[Job]:
        for root in self.roots:
            match root:
                case File():
                    yield self._job(root.name, root.path, _size(root.path), FileSource(root.path, follow_symlinks=True))
                case Folder():
                    async for items in walked(root.path):
                        for item in items:
                            if (job := self._walked(root, item)) is not None:
                                yield job

    def done(self, name: Name) -> tuple[bytes, int]:
        """A name has its outcome: forget its path and the size that was expected."""
        return self.paths.pop(name, b""), self.sizes.pop(name, 0)

    def _walked(self, folder: Folder, item: Item) -> Job | None:
        match item:
            case Found():
                try:
                    name = as_name(folder.prefix + item.below)
                except NameProblem as error:
                    self.report.unreadable(item.path, error)
                    return None
                # No link on the way either: what was a folder when it was listed may be one now.
                return self._job(name, item.path, item.size, FileSource(item.path, root=folder.path))
            case Skipped():
                self.report.skipped(item.path, item.why)
            case Unreadable():
                self.report.unreadable(item.path, item.error)
        return None

    def _job(self, name: Name, path: bytes, size: int, source: FileSource) -> Job:
        self.paths[name] = path
        self.sizes[name] = size
        self.report.found(size)
        return self.make(name, source)


def _size(path: bytes) -> int:
    """For the bar alone; what is wrong with the file is said when it is its turn."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 (bytes)
    except OSError:
        return 0
