"""Actions → the client's engine → the journal. The only place that moves files, and it moves them through the engine.

Knows nothing of scans, events or folders' rules; what became of a file is noted in the journal, then told.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Literal, Protocol

from putgate.errors import AnswerUnreadable, ClientError, NotVerified, SourceChanged, StoreRefused, Unreachable
from putgate.upload.job import Failed, Job, Uploaded
from putgate.upload.source import FileSource
from putgate_daemon.entries import Blocked, Entry
from putgate_daemon.journal.journal import Journal
from putgate_daemon.journal.records import NEVER, Failure, Stored
from putgate_daemon.plan import GRAIN, LAST_RETRY, Reason, backoff, racy_until
from putgate_daemon.settle import NANO
from putgate_protocol.names import Name
from putgate_protocol.problems import NameProblem, Problem

QUEUED = 2000
"""Files on their way to the engine: two of its largest batches. More is only memory; scans wait instead."""

SOON = 60.0
"""Seconds between tries, at most, of what other people repair for all files at once, or what repairs itself."""

_SOON_CODES = frozenset({"unauthenticated", "source_changed", "unreachable"})


class Engine(Protocol):
    """`putgate.upload.many.Engine`, as far as it is used here."""

    def upload_many(self, jobs: AsyncIterator[Job]) -> AsyncIterator[Uploaded | Failed]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One file to upload: of folder `root` (its number in the journal), at the absolute `path`."""

    root: int
    path: bytes
    entry: Entry
    name: Name
    reason: Reason
    attempts: int = 0
    first_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    task: Task
    how: Literal["exists", "put", "complete"]
    sent: int
    size: int
    took: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """Not stored. `retry_in`: seconds until the next try; None: not before the file changes."""

    root: int
    path: bytes
    code: str
    detail: str
    attempts: int
    retry_in: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vanished:
    """The file went away before it could be read: nothing to do."""

    task: Task


Outcome = Done | Missed | Vanished


@dataclass(slots=True)
class _Flight:
    task: Task
    started: float
    read_from_ns: int
    again: dict[bytes, Task] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Transfer:
    """`tell` hears of every outcome; `again` of tasks that were submitted while their name was under way
    with other content, or from another folder, and have to be looked at again.
    """

    engine: Callable[[], Engine]
    journal: Journal
    tell: Callable[[Outcome], None]
    again: Callable[[Task], None]
    random: Random = field(default_factory=Random)
    clock: Callable[[], int] = time.time_ns
    _queue: asyncio.Queue[Task] = field(init=False, default_factory=lambda: asyncio.Queue(QUEUED))
    _known: dict[Name, _Flight] = field(init=False, default_factory=dict)
    _idle: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._idle.set()

    @property
    def pending(self) -> int:
        """Files submitted and without an outcome yet."""
        return len(self._known)

    async def submit(self, task: Task) -> None:
        """Queue a file; waits while the queue is full. What is under way already is not queued twice."""
        if (flight := self._known.get(task.name)) is not None:
            if (task.path, task.entry.change_key) != (flight.task.path, flight.task.entry.change_key):
                flight.again[task.path] = task
            return
        self._known[task.name] = _Flight(task, 0.0, 0)
        self._idle.clear()
        await self._queue.put(task)

    async def idle(self) -> None:
        """Wait until every file submitted has its outcome noted."""
        await self._idle.wait()
        await self.journal.flush()

    async def run(self) -> None:
        """Until cancelled. Cancelled, it drops what is under way; a later start goes on with it.

        The engine is made for the first file: a daemon with nothing to do calls nobody.
        """
        first = await self._queue.get()
        results = self.engine().upload_many(self._jobs(first))
        try:
            async for result in results:
                await self._land(result)
        finally:
            if isinstance(results, AsyncGenerator):
                await results.aclose()

    async def _land(self, result: Uploaded | Failed) -> None:
        flight = self._known.pop(result.job.name)
        self.tell(await self._note(flight, result))
        for task in flight.again.values():
            self.again(task)
        if not self._known:
            self._idle.set()

    async def _jobs(self, first: Task) -> AsyncIterator[Job]:
        task = first
        while True:
            flight = self._known[task.name]
            flight.started, flight.read_from_ns = time.monotonic(), self.clock()
            yield Job(name=task.name, source=FileSource(task.path, root=task.path.removesuffix(task.entry.path)))
            task = await self._queue.get()

    async def _note(self, flight: _Flight, result: Uploaded | Failed) -> Outcome:
        if isinstance(result, Uploaded):
            return await self._stored(flight, result)
        task = flight.task
        if isinstance(result.error, OSError) and result.error.errno in (errno.ENOENT, errno.ENOTDIR):
            await self.journal.forget(task.root, [task.entry.path])
            return Vanished(task=task)
        return await self.missed(
            task.root,
            task.entry.path,
            task.entry.change_key,
            result.error,
            attempts=task.attempts,
            first_ns=task.first_ns,
        )

    async def _stored(self, flight: _Flight, result: Uploaded) -> Done:
        task = flight.task
        # A file that changed between look and upload is stored as it was at the upload; the next look compares.
        now = self.clock()
        same = result.change_key == task.entry.change_key
        stored = Stored(
            change_key=result.change_key,
            size=result.file.size,
            file_hash=result.file.file_hash,
            uploaded_ns=now,
            racy_until_ns=racy_until(task.entry, flight.read_from_ns) if same else now + GRAIN,
        )
        await self.journal.note_stored(task.root, task.entry.path, stored)
        took = time.monotonic() - flight.started
        return Done(task=task, how=result.how, sent=result.sent_bytes, size=result.file.size, took=took)

    async def missed(
        self,
        root: int,
        path: bytes,
        change_key: str,
        error: Exception | Blocked,
        *,
        attempts: int = 0,
        first_ns: int = 0,
    ) -> Missed:
        """Note a failure after `attempts` earlier ones, the first at `first_ns`, with its next try."""
        code, detail = explain(error)
        final = isinstance(error, NameProblem)
        delay = backoff(attempts + 1, self.random, SOON if code in _SOON_CODES else LAST_RETRY)
        now = self.clock()
        failure = Failure(
            change_key=change_key,
            code=code,
            detail=detail,
            attempts=attempts + 1,
            first_ns=first_ns or now,
            retry_ns=NEVER if final else now + int(delay * NANO),
        )
        await self.journal.note_failure(root, path, failure)
        return Missed(
            root=root,
            path=path,
            code=code,
            detail=detail,
            attempts=attempts + 1,
            retry_in=None if final else delay,
        )


def explain(error: Exception | Blocked) -> tuple[str, str]:
    """A stable code and a text for people. Raises what is no failure of a file but a defect of the program."""
    match error:
        case Problem():
            return error.code, error.detail
        case Blocked():
            return "blocked", error.why
        case OSError():
            return "blocked", error.strerror or os.strerror(error.errno or errno.EIO)
        case SourceChanged():
            return "source_changed", "it changed while it was read"
        case StoreRefused():
            return "store_refused", str(error)
        case Unreachable():
            return "unreachable", str(error)
        case AnswerUnreadable() | NotVerified():
            return "answer_unreadable", str(error)
        case ClientError():
            return "client_error", str(error)
        case _:
            raise error
