"""A download under way on the disk: the file beside its target, and which of its parts are there.

A killed download goes on from what it left: `.putgate-<id>.part`, and beside it `.putgate-<id>.parts` with the hash of
each part that was written, a line each. What the second says is believed only of bytes that still have that hash, and
only for the very version that it was written for; the whole is judged by the file hash at the end. Everything blocks.

Both belong to the download whose locked file is at the first path. As soon as it is not there any more, another one
may have come: so the state is removed before the file goes away, and neither is touched after that.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from putgate.download.digests import PartDigests
from putgate.download.place import allow, check, is_at, open_private, opened, permissions
from putgate.errors import NotVerified
from putgate.upload.source import PIECE
from putgate.wire import Stat
from putgate_protocol.digests import FileHash, PartHash
from putgate_protocol.names import Name
from putgate_protocol.parts import MIB, PartPlan

FOREIGN_PART = 8 * MIB
"""How a file without a part size is cut: only what is fetched again after a crash depends on it."""

RUN = 32 * MIB
"""Bytes fetched by one request, in whole parts. Less makes more requests, more leaves fewer to run at once."""

_STATE_VERSION = 1
_LINE = re.compile(rb"(\d{1,5}) ([0-9a-f]{64})")


class Unfinished:
    """One download into `target`. Close it, whatever happens; what may serve the next try stays then.

    Raises `OSError`, also where the target is a folder, a device, a pipe or a socket.
    """

    def __init__(self, target: Path, name: Name, stat: Stat) -> None:
        self._target = target
        self._name = name
        self._stat = stat
        self.plan = PartPlan(size=stat.file.size, part_size=stat.part_size or FOREIGN_PART)
        self._hashes: dict[int, PartHash] = {}
        self._lock = threading.Lock()
        self._closed = False
        check(target)
        self._mode = permissions(target)
        self._path, self._file, found_again = opened(target, name, self._mode)
        self._keep = self.plan.count > 1 and found_again
        self._state_path = self._path.with_suffix(".parts")
        self._state: int | None = None
        try:
            if self._keep:
                self._state = open_private(self._state_path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
                self._hashes = self._claimed(self._state)
            if not self._hashes:
                self._begin_anew()
        except BaseException:
            self.close()
            raise

    @property
    def claimed(self) -> list[int]:
        """Parts that are said to be there; ask `recheck` before anything else."""
        return sorted(self._hashes)

    def recheck(self, number: int) -> int:
        """Forget a part whose bytes are not what they were. Returns how many bytes are still good."""
        part = self.plan.part(number)
        digest = hashlib.sha256()
        for offset in range(part.offset, part.offset + part.length, PIECE):
            with self._open_file() as descriptor:
                data = os.pread(descriptor, min(PIECE, part.offset + part.length - offset), offset)
            digest.update(data)
        if digest.digest() == self._hashes[number]:
            return part.length
        del self._hashes[number]
        return 0

    def runs(self) -> list[Run]:
        """What is missing, in runs of neighbouring parts."""
        most = max(1, RUN // self.plan.part_size)
        runs: list[list[int]] = []
        for number in range(1, self.plan.count + 1):
            if number in self._hashes:
                continue
            if runs and runs[-1][-1] == number - 1 and len(runs[-1]) < most:
                runs[-1].append(number)
            else:
                runs.append([number])
        return [Run(self, run[0], run[-1]) for run in runs]

    def put(self, data: memoryview, offset: int) -> None:
        with self._open_file() as descriptor:
            while data:
                written = os.pwrite(descriptor, data, offset)
                data, offset = data[written:], offset + written

    def note(self, number: int, digest: PartHash) -> None:
        """A part is written."""
        with self._open_file():
            self._hashes[number] = digest
            if self._state is not None:
                os.write(self._state, f"{number} {digest}\n".encode())

    def finish(self) -> None:
        """Check everything and give the file its name. Raises `NotVerified`, `OSError`."""
        try:
            self._verify()
        except NotVerified:
            self._keep = False
            raise
        with self._open_file() as descriptor:
            os.ftruncate(descriptor, self.plan.size)
            os.fsync(descriptor)
            allow(descriptor, self._mode)
            # It may have been a plain file, or nothing, when the download began.
            check(self._target)
            if not is_at(descriptor, self._path):
                what = "it was removed or replaced while it was written"
                raise OSError(errno.ESTALE, what, os.fspath(self._path))
            # Without its state it serves no other try, should the rename fail.
            self._keep = False
            self._state_path.unlink(missing_ok=True)
            self._path.replace(self._target)

    def give_up(self) -> None:
        """What is there will not serve another try."""
        self._keep = False

    def close(self) -> None:
        """Of a download that is done, or of no use, nothing is left behind."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if (not self._keep or not self._hashes) and is_at(self._file, self._path):
                    for path in (self._state_path, self._path):
                        path.unlink(missing_ok=True)
            finally:
                if self._state is not None:
                    os.close(self._state)
                os.close(self._file)

    def _verify(self) -> None:
        if len(self._hashes) != self.plan.count:
            raise NotVerified(f"{self._name}: {len(self._hashes)} parts arrived of {self.plan.count}")
        expected = self._stat.file.file_hash
        if self._stat.part_size and expected:
            hashes = (self._hashes[number] for number in range(1, self.plan.count + 1))
            if str(FileHash.of(hashes)) != expected:
                raise NotVerified(f"{self._name}: the bytes that arrived are not those that were stored")

    @property
    def _header(self) -> bytes:
        file = self._stat.file
        about = [_STATE_VERSION, file.version, file.size, file.file_hash, self.plan.part_size]
        return json.dumps(about).encode()

    def _claimed(self, descriptor: int) -> dict[int, PartHash]:
        """Nothing, where the state is not about this very version; a line that was cut off is no line."""
        with open(descriptor, "rb", closefd=False) as state:
            header, *lines = state.read().split(b"\n")
        if header != self._header or not self._stat.file.version:
            return {}
        found = (match for line in lines if (match := _LINE.fullmatch(line)))
        parts = {int(number): PartHash.parse(digest.decode()) for number, digest in (one.groups() for one in found)}
        return {number: digest for number, digest in parts.items() if 1 <= number <= self.plan.count}

    def _begin_anew(self) -> None:
        os.ftruncate(self._file, 0)
        if self._state is not None:
            os.ftruncate(self._state, 0)
            os.write(self._state, self._header + b"\n")

    @contextlib.contextmanager
    def _open_file(self) -> Iterator[int]:
        """The descriptor, for as long as nobody may close it: threads may still write when a download is cancelled."""
        with self._lock:
            if self._closed:
                raise ValueError("this download has ended")
            yield self._file


class Run:
    """Neighbouring parts, `first` to `last`, that are filled in order."""

    def __init__(self, unfinished: Unfinished, first: int, last: int) -> None:
        self._unfinished = unfinished
        self._digests = PartDigests(unfinished.plan, first)
        part = unfinished.plan.part(last)
        self.end = part.offset + part.length

    @property
    def position(self) -> int:
        return self._digests.position

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        self._unfinished.put(view, self.position)
        for number, digest in self._digests.update(view):
            self._unfinished.note(number, digest)
