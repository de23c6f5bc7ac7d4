"""SQLite in one thread: every statement of the journal runs there, in batches of one transaction each.

One writer, no lock to wait for, and the event loop never touches the disk. A damaged file is set aside and a new one
begun in place; what was asked at that moment is asked again of the new one.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from putgate_daemon.errors import JournalError, JournalInUse
from putgate_daemon.journal import schema

T = TypeVar("T")

BATCH = 1000
"""Statements of one transaction: a commit costs as much as many rows; longer ones keep their askers waiting."""

LOOKED_AT = 1.0
"""Seconds for which a journal may seem in use that somebody only looks at (`holder`), which takes an instant. Shorter,
and a busy machine can make a look last as long; longer, and a second daemon says so later.
"""

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class _Ask:
    do: Callable[[sqlite3.Connection], Any]
    answer: asyncio.Future[Any]


class Lock:
    """The one daemon that may use a journal. Held by the process, so no crash leaves it behind."""

    def __init__(self, journal: Path) -> None:
        """Raises `JournalInUse`, and `JournalError` where its file cannot be written."""
        path = lock_path(journal)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(f"journal {journal}: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise JournalInUse(f"journal {journal} is in use by another daemon (process {holder})") from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    @classmethod
    async def taken(cls, journal: Path) -> Lock:
        """The lock, though somebody may be looking who holds it. Raises as the constructor does."""
        deadline = time.monotonic() + LOOKED_AT
        while True:
            try:
                return cls(journal)
            except JournalInUse:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(0.02)

    def release(self) -> None:
        os.close(self._file)


def lock_path(journal: Path) -> Path:
    return journal.with_name(journal.name + ".lock")


def holder(journal: Path) -> int | None:
    """The process that uses this journal now, or None. Looking takes a share of the lock, and gives it back at once."""
    try:
        file = os.open(lock_path(journal), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(file, 32, 0).strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(file)
    return None


class Worker:
    """The thread; it owns the lock. Where a damaged journal was set aside, `seed` is called with the new one, then
    `on_set_aside` with the path of the old one, both in that thread.
    """

    def __init__(
        self, path: Path, lock: Lock, seed: Callable[[sqlite3.Connection], None], on_set_aside: Callable[[Path], None]
    ) -> None:
        self._path = path
        self._seed = seed
        self._on_set_aside = on_set_aside
        self._asks: queue.SimpleQueue[_Ask | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._lock = lock
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    async def opened(self) -> None:
        """Raises `JournalTooNew` or `JournalError` where it could not be opened."""
        await self._opened

    def ask(self, do: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run `do` in the thread; the answer comes after its commit. It may run twice, after damage."""
        answer: asyncio.Future[T] = self._loop.create_future()
        self._asks.put(_Ask(do, answer))
        return answer

    async def close(self) -> None:
        """Commit what was asked, close the file, give up the lock."""
        self._asks.put(None)
        await asyncio.to_thread(self._thread.join)
        self._lock.release()

    def _run(self) -> None:
        try:
            connection = self._open()
        except (sqlite3.Error, OSError) as error:
            failed = JournalError(f"journal {self._path}: {error}")
            self._loop.call_soon_threadsafe(self._opened.set_exception, failed)
            return
        except JournalError as error:
            self._loop.call_soon_threadsafe(self._opened.set_exception, error)
            return
        self._loop.call_soon_threadsafe(self._opened.set_result, None)
        while (batch := self._batch()) is not None:
            connection = self._serve(connection, batch)
        connection.close()

    def _batch(self) -> list[_Ask] | None:
        first = self._asks.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < BATCH:
            try:
                ask = self._asks.get_nowait()
            except queue.Empty:
                break
            if ask is None:
                self._asks.put(None)
                break
            batch.append(ask)
        return batch

    def _serve(self, connection: sqlite3.Connection, batch: list[_Ask]) -> sqlite3.Connection:
        try:
            answers = _transact(connection, batch)
        except sqlite3.DatabaseError as error:
            if not _damaged(error):
                self._fail(batch, error)
                return connection
            connection.close()
            try:
                connection = self._anew()
                answers = _transact(connection, batch)
            except (sqlite3.Error, OSError) as again:
                self._fail(batch, again)
                return connection
        except Exception as error:  # noqa: BLE001 - whatever it is, this thread must live on
            return self._serve_singly(connection, batch, error)
        self._loop.call_soon_threadsafe(_resolve, batch, answers)
        return connection

    def _serve_singly(self, connection: sqlite3.Connection, batch: list[_Ask], error: Exception) -> sqlite3.Connection:
        """One ask cannot be carried out, by no fault of the file: it alone fails."""
        if len(batch) == 1:
            self._fail(batch, error)
            return connection
        for ask in batch:
            connection = self._serve(connection, [ask])
        return connection

    def _fail(self, batch: list[_Ask], error: Exception) -> None:
        failed = JournalError(f"journal {self._path}: {error}")
        self._loop.call_soon_threadsafe(_reject, batch, failed)

    def _open(self) -> sqlite3.Connection:
        schema.check_ours(self._path)
        wal = self._path.with_name(self._path.name + "-wal")
        doubtful = wal.exists() and wal.stat().st_size > 0
        try:
            return self._connect(doubtful=doubtful)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and not _damaged(error):
                raise
            return self._anew()

    def _connect(self, *, doubtful: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            schema.prepare(connection, doubtful=doubtful)
        except BaseException:
            connection.close()
            raise
        self._path.chmod(0o600)
        return connection

    def _anew(self) -> sqlite3.Connection:
        """Set the damaged journal aside, with what belongs to it, and begin an empty one."""
        aside = self._path.with_name(f"{self._path.name}.corrupt-{time.time_ns()}")
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        connection = self._connect(doubtful=False)
        self._seed(connection)
        self._on_set_aside(aside)
        return connection


def _damaged(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGED


def _transact(connection: sqlite3.Connection, batch: list[_Ask]) -> list[Any]:
    connection.execute("BEGIN")
    try:
        answers = [ask.do(connection) for ask in batch]
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return answers


def _resolve(batch: list[_Ask], answers: list[Any]) -> None:
    for ask, answer in zip(batch, answers, strict=True):
        if not ask.answer.done():
            ask.answer.set_result(answer)


def _reject(batch: list[_Ask], error: JournalError) -> None:
    for ask in batch:
        if not ask.answer.done():
            ask.answer.set_exception(error)
