"""The journal as the rest of the daemon sees it: questions and notes about files, in its own words.

A file is noted as stored only after the engine reported it, so a crash at any moment costs work, never a file.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from putgate_daemon.journal.records import Failure, Recall, ScanRecord, Stored
from putgate_daemon.journal.worker import Lock, Worker

T = TypeVar("T")

MAX_NOTES = 4096
"""Notes gathered for the thread; more wait, so that a slow disk slows the daemon and not its memory."""

GATHER = 0.02
"""Seconds for which notes are gathered: each hand-over to the thread costs as much as many notes. What a crash
loses of them is found out again, without sending a byte.
"""

_Note = Callable[[sqlite3.Connection], object]

_VARIABLES = 500
"""Paths asked for in one statement; SQLite builds allow from 999 on."""


class Journal:
    """Opened by `open`, closed by `close`. Every method may raise `JournalError`."""

    def __init__(self, worker: Worker, roots: dict[bytes, tuple[int, str]]) -> None:
        self._worker = worker
        self._roots = roots
        self._gathered: list[_Note] = []
        self._given: set[asyncio.Future[None]] = set()
        self._error: BaseException | None = None

    @classmethod
    async def open(cls, path: Path, on_set_aside: Callable[[Path], None] = lambda _: None) -> Journal:
        """Raises `JournalInUse`, `JournalTooNew`, `JournalError`. `on_set_aside` is called in the journal's thread
        when the journal was damaged: everything must be scanned again then.
        """
        roots: dict[bytes, tuple[int, str]] = {}

        def seed(db: sqlite3.Connection) -> None:
            rows = [(number, path, destination) for path, (number, destination) in roots.items()]
            db.executemany("INSERT INTO roots (id, path, destination) VALUES (?, ?, ?)", rows)

        worker = Worker(path, await Lock.taken(path), seed, on_set_aside)
        try:
            await worker.opened()
        except BaseException:
            await worker.close()
            raise
        return cls(worker, roots)

    async def close(self) -> None:
        try:
            await self.flush()
        finally:
            await self._worker.close()

    async def flush(self) -> None:
        """Wait until every note is committed."""
        self._give()
        if self._given:
            await asyncio.wait(self._given)
        if self._error is not None:
            raise self._error

    async def attach(self, path: bytes, destination: str) -> int:
        """The number of a folder. What was noted for another destination is forgotten: it says nothing of this one."""

        def do(db: sqlite3.Connection) -> int:
            found = db.execute("SELECT id, destination FROM roots WHERE path = ?", (path,)).fetchone()
            if found is None:
                made = db.execute("INSERT INTO roots (path, destination) VALUES (?, ?)", (path, destination))
                root = int(made.lastrowid or 0)
            else:
                root = int(found[0])
            if found is not None and found[1] != destination:
                for table in ("files", "failures", "scans"):
                    db.execute(f"DELETE FROM {table} WHERE root = ?", (root,))  # noqa: S608 (our own names)
                db.execute("UPDATE roots SET destination = ? WHERE id = ?", (destination, root))
            # Remembered in the journal's thread, for a new journal after damage to begin with the same numbers.
            self._roots[path] = (root, destination)
            return root

        return await self.ask(do)

    async def recall(self, root: int, paths: Sequence[bytes]) -> Recall:
        """What is known of these paths."""

        def do(db: sqlite3.Connection) -> Recall:
            recall = Recall(stored={}, failures={})
            for at in range(0, len(paths), _VARIABLES):
                _recall(db, root, paths[at : at + _VARIABLES], recall)
            return recall

        return await self.ask(do)

    async def note_stored(self, root: int, path: bytes, stored: Stored) -> None:
        row = (root, path, stored.change_key, stored.size, stored.file_hash, stored.uploaded_ns, stored.racy_until_ns)

        def do(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            db.execute("DELETE FROM failures WHERE root = ? AND path = ?", (root, path))

        await self.note(do)

    async def note_failure(self, root: int, path: bytes, failure: Failure) -> None:
        row = (
            root,
            path,
            failure.change_key,
            failure.code,
            _plain(failure.detail),
            failure.attempts,
            failure.first_ns,
            failure.retry_ns,
        )

        def do(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

        await self.note(do)

    async def forget(self, root: int, paths: Sequence[bytes]) -> None:
        """Forget these paths and all below them."""

        def do(db: sqlite3.Connection) -> None:
            for path in paths:
                # b"0" follows b"/", so this range is everything below the path.
                where = "root = ? AND (path = ? OR (path > ? AND path < ?))"
                values = (root, path, path + b"/", path + b"0")
                db.execute(f"DELETE FROM files WHERE {where}", values)  # noqa: S608 (our own text)
                db.execute(f"DELETE FROM failures WHERE {where}", values)  # noqa: S608

        await self.note(do)

    async def known_paths(self, root: int, after: bytes, limit: int) -> list[bytes]:
        """Paths that are noted as stored or failed, in order, the ones after `after`."""
        asked = (
            "SELECT path FROM files WHERE root = ?1 AND path > ?2"
            " UNION SELECT path FROM failures WHERE root = ?1 AND path > ?2 ORDER BY path LIMIT ?3"
        )
        return await self.ask(lambda db: [row[0] for row in db.execute(asked, (root, after, limit))])

    async def count(self, root: int) -> tuple[int, int]:
        """How many files of the folder are noted as stored, and how many as failed."""
        asked = "SELECT (SELECT count(*) FROM files WHERE root = ?1), (SELECT count(*) FROM failures WHERE root = ?1)"
        return await self.ask(lambda db: _pair(db.execute(asked, (root,)).fetchone()))

    async def due(self, root: int, now_ns: int, limit: int) -> list[bytes]:
        """Failed files whose next try is due."""
        asked = "SELECT path FROM failures WHERE root = ? AND retry_ns <= ? ORDER BY retry_ns LIMIT ?"
        return await self.ask(lambda db: [row[0] for row in db.execute(asked, (root, now_ns, limit))])

    async def identity(self, root: int) -> tuple[int, int] | None:
        """Device and inode of the folder when it was last scanned."""

        def do(db: sqlite3.Connection) -> tuple[int, int] | None:
            device, inode = db.execute("SELECT device, inode FROM roots WHERE id = ?", (root,)).fetchone()
            return None if device is None else (int(device), int(inode))

        return await self.ask(do)

    async def note_identity(self, root: int, device: int, inode: int) -> None:
        # As text: an inode may not fit SQLite's signed integers.
        await self.note(
            lambda db: db.execute(
                "UPDATE roots SET device = ?, inode = ? WHERE id = ?", (str(device), str(inode), root)
            )
        )

    async def note_state(self, root: int, state: str, detail: str) -> None:
        await self.note(
            lambda db: db.execute("UPDATE roots SET state = ?, detail = ? WHERE id = ?", (state, _plain(detail), root))
        )

    async def note_scan(self, root: int, scan: ScanRecord) -> None:
        row = (
            root,
            scan.started_ns,
            scan.finished_ns,
            scan.files,
            scan.size,
            scan.symlinks,
            scan.specials,
            scan.unwanted,
            scan.blocked,
            scan.queued,
        )
        await self.note(lambda db: db.execute("INSERT OR REPLACE INTO scans VALUES (?,?,?,?,?,?,?,?,?,?)", row))

    async def ask(self, do: Callable[[sqlite3.Connection], T]) -> T:
        """Run `do` in the journal's thread, after all notes before it; the answer comes after its commit."""
        self._give()
        return await self._worker.ask(do)

    async def note(self, do: Callable[[sqlite3.Connection], object]) -> None:
        """Ask for a statement whose commit nobody waits for; `flush` does, and says what went wrong."""
        if self._error is not None:
            raise self._error
        if len(self._gathered) >= MAX_NOTES:
            await self.flush()
        self._gathered.append(do)
        if len(self._gathered) == 1:
            asyncio.get_running_loop().call_later(GATHER, self._give)

    def _give(self) -> None:
        """Hand the notes gathered so far to the thread, as one statement."""
        if not self._gathered:
            return
        notes, self._gathered = self._gathered, []

        def do(db: sqlite3.Connection) -> None:
            for note in notes:
                note(db)

        given = self._worker.ask(do)
        self._given.add(given)
        given.add_done_callback(self._noted)

    def _noted(self, given: asyncio.Future[None]) -> None:
        self._given.discard(given)
        if not given.cancelled() and (error := given.exception()) is not None:
            self._error = error


_STORED = "SELECT path, change_key, size, file_hash, uploaded_ns, racy_until_ns FROM files"
_FAILED = "SELECT path, change_key, code, detail, attempts, first_ns, retry_ns FROM failures"


def _recall(db: sqlite3.Connection, root: int, paths: Sequence[bytes], recall: Recall) -> None:
    some = f" WHERE root = ? AND path IN ({','.join('?' * len(paths))})"
    for path, key, size, file_hash, uploaded, racy in db.execute(_STORED + some, (root, *paths)):
        recall.stored[path] = Stored(
            change_key=key, size=size, file_hash=file_hash, uploaded_ns=uploaded, racy_until_ns=racy
        )
    for path, key, code, detail, attempts, first, retry in db.execute(_FAILED + some, (root, *paths)):
        recall.failures[path] = Failure(
            change_key=key, code=code, detail=detail, attempts=attempts, first_ns=first, retry_ns=retry
        )


def _pair(row: tuple[int, int]) -> tuple[int, int]:
    return (row[0], row[1])


def _plain(text: str) -> str:
    """Without the lone surrogates that a path's name in a message can bring: SQLite keeps UTF-8 only."""
    return text.encode("utf-8", "backslashreplace").decode()
