"""One folder, kept uploaded: its root, its scans, its hints and what waits to be looked at again.

Two tasks: one keeps watch over the root and scans the whole of it, one follows hints, files that settle and files to
be tried again. Both only look and plan; moving files is `transfer`'s.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import TypeVar, assert_never

import structlog

from putgate.errors import SourceChanged
from putgate_daemon.entries import Blocked, Entry, shown
from putgate_daemon.errors import RootMissing
from putgate_daemon.journal.journal import Journal
from putgate_daemon.journal.records import Failure, Recall, ScanRecord
from putgate_daemon.plan import Keep, Policy, Refuse, Upload, Wait, decide
from putgate_daemon.rules import Rules
from putgate_daemon.scan import Chunk, Identity, Tally, Walk, identify, look, lost
from putgate_daemon.settle import NANO, Seen
from putgate_daemon.transfer import Outcome, Task, Transfer
from putgate_daemon.watch import Hint, WatchFailed, watch

T = TypeVar("T")

ROOT_CHECK = 5.0
"""Seconds between looks at the root: nobody tells when it is unmounted, renamed or made anew."""

NEW_DIRECTORY_AGAIN = 2 * NANO
"""A new directory is scanned at once and again after this: what was made in it before it was watched told nobody."""

GRID = NANO // 4
"""Files that settle at about the same time are looked at together, so that they share a batch."""

RETRY_CHECK = 1.0
"""Seconds between looks for failed files whose next try is due."""

MAX_PAUSE = 60.0
"""Seconds between scans that were asked for, at most; else as long as the last one took."""

MAX_DIRTY = 50_000
"""Hints remembered; more are dropped for one scan of the whole folder."""

MAX_WAITING = 100_000
"""Settling files remembered; for more, the folder is scanned again when they have settled."""

MAX_CHANGES = 5
"""Where the daemon runs once: how often a file may change while it is waited for."""

DEGRADED_RESCAN = (60.0, 300.0)
"""Seconds between scans of a folder that should be watched and is not."""

WATCH_RETRY = (1.0, 300.0)
"""Seconds before a failed watcher is built again, doubling."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    seen: Seen
    until_ns: int
    changes: int


@dataclass(slots=True, kw_only=True)
class Counts:
    """For `status` and metrics. `by_scan`: changes that a regular scan found and no hint had told of."""

    scans: int = 0
    hints: int = 0
    watch_failures: int = 0
    by_scan: int = 0
    scan_seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class FolderSync:
    """`number`: the folder's in the journal. `pool`: threads for looking. `tell`: hears of files that cannot be stored
    whatever is tried.
    """

    root: bytes
    number: int
    rules: Rules
    policy: Policy
    rescan: timedelta
    journal: Journal
    transfer: Transfer
    pool: Executor
    tell: Callable[[Outcome], None]
    clock: Callable[[], int] = time.time_ns
    random: Random = field(default_factory=Random)
    counts: Counts = field(default_factory=Counts)
    state: str = "new"
    detail: str = ""
    watched: bool = False
    blocked: dict[bytes, str] = field(default_factory=dict)
    _dirty: dict[bytes, bool] = field(default_factory=dict)
    _waiting: dict[bytes, _Waiting] = field(default_factory=dict)
    _due: list[tuple[int, bytes]] = field(default_factory=list)
    _identity: Identity | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _rescan_wanted: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def scan_wanted(self) -> bool:
        """Whether something was dropped, or may have been missed, that a whole scan finds."""
        return self._rescan_wanted.is_set()

    @property
    def waiting(self) -> int:
        """Files and directories to be looked at again."""
        return len(self._waiting) + len(self._dirty)

    @property
    def _log(self) -> structlog.stdlib.BoundLogger:
        log: structlog.stdlib.BoundLogger = structlog.get_logger().bind(folder=shown(self.root))
        return log

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep(tasks))
            tasks.create_task(self._follow())

    def hint(self, hints: Iterable[Hint]) -> None:
        """Something may have changed."""
        for hint in hints:
            self.counts.hints += 1
            if not hint.path:
                continue
            self._dirty[hint.path] = self._dirty.get(hint.path, False) or hint.made
        if len(self._dirty) > MAX_DIRTY:
            self._dirty.clear()
            self.want_scan()
        self._wake.set()

    def want_scan(self) -> None:
        """Scan the whole folder soon."""
        self._rescan_wanted.set()

    # The root and whole scans.

    async def _keep(self, tasks: asyncio.TaskGroup) -> None:
        """Watch and scan the root that is there; when it goes or changes, wait and begin anew."""
        while True:
            try:
                identity = await self._in_pool(identify, self.root)
            except RootMissing as error:
                await self._set_state("missing", str(error))
                await asyncio.sleep(ROOT_CHECK)
                continue
            armed = asyncio.Event()
            watcher = tasks.create_task(self._watch(armed))
            try:
                await armed.wait()
                await self._keep_scanned(identity)
            finally:
                watcher.cancel()
                await asyncio.wait([watcher])

    async def _keep_scanned(self, identity: Identity) -> None:
        """Scan, now and again, for as long as the root is this one."""
        regular = False
        while True:
            self._rescan_wanted.clear()
            try:
                await self.scan(regular=regular)
            except RootMissing:
                return
            began = time.monotonic()
            pause = self._pause()
            while (left := began + pause - time.monotonic()) > 0 and not self._rescan_wanted.is_set():
                await _until(self._rescan_wanted, min(left, ROOT_CHECK))
                try:
                    if await self._in_pool(identify, self.root) != identity:
                        return
                except RootMissing:
                    return
            regular = not self._rescan_wanted.is_set()
            # Whoever wants scans all the time still gets only half of it.
            await asyncio.sleep(0 if regular else min(MAX_PAUSE, max(1.0, self.counts.scan_seconds)))

    def _pause(self) -> float:
        usual = self.rescan.total_seconds()
        if self.watched:
            return usual * self.random.uniform(0.9, 1.1)
        return min(usual, self.random.uniform(*DEGRADED_RESCAN))

    async def _watch(self, armed: asyncio.Event) -> None:
        """Keep a watcher alive. `armed` is set once it is, or once it failed: scans do not wait for it."""

        def live() -> None:
            self.watched = True
            if armed.is_set():
                self.want_scan()
            armed.set()

        delay = WATCH_RETRY[0]
        while True:
            began = time.monotonic()
            try:
                await watch(self.root, armed=live, hints=self.hint)
            except WatchFailed as error:
                self.watched = False
                self.counts.watch_failures += 1
                if time.monotonic() - began > WATCH_RETRY[1]:
                    delay = WATCH_RETRY[0]
                self._log.warning("watch_failed", why=str(error), retry_in=round(delay, 1))
                if armed.is_set():
                    self.want_scan()
                armed.set()
            finally:
                self.watched = False
            await asyncio.sleep(delay * self.random.uniform(0.5, 1.0))
            delay = min(delay * 2, WATCH_RETRY[1])

    async def scan(self, *, regular: bool = False) -> Tally:
        """Scan the whole folder and plan what it holds. Raises `RootMissing`."""
        self._rescan_wanted.clear()
        try:
            return await self._scan_all(regular=regular)
        except RootMissing as error:
            await self._set_state("missing", str(error))
            raise

    async def _scan_all(self, *, regular: bool) -> Tally:
        started = self.clock()
        identity = await self._in_pool(identify, self.root)
        await self._set_state("scanning", "")
        walk = Walk(self.root, self.rules, clock=self.clock)
        self.blocked = {}
        queued, kept = await self._walk(walk, unhinted=regular and self.watched)
        tally = walk.tally
        await self._settle_identity(identity, tally, kept)
        finished = self.clock()
        self.counts.scans += 1
        self.counts.scan_seconds = (finished - started) / NANO
        await self.journal.note_scan(
            self.number,
            ScanRecord(
                started_ns=started,
                finished_ns=finished,
                files=tally.files,
                size=tally.size,
                symlinks=tally.symlinks,
                specials=tally.specials,
                unwanted=tally.unwanted,
                blocked=tally.blocked,
                queued=queued,
            ),
        )
        self._log.info(
            "scanned",
            files=tally.files,
            queued=queued,
            blocked=tally.blocked,
            symlinks=tally.symlinks,
            specials=tally.specials,
            ms=(finished - started) // 1_000_000,
        )
        return tally

    async def _settle_identity(self, identity: Identity, tally: Tally, kept: int) -> None:
        """After a scan: forget what is gone, unless the folder itself may be what is gone. Raises `RootMissing`."""
        await self._check_same(identity)
        before = await self.journal.identity(self.number)
        now = (identity.device, identity.inode)
        if before is not None and before != now and not tally.files:
            # A disk that is not mounted looks like an empty folder.
            await self._set_state("empty", "another, empty directory is in the folder's place; is it mounted?")
            return
        if before is not None and before != now:
            self._log.warning("folder_replaced")
        elif sum(await self.journal.count(self.number)) > kept:
            await self._forget_lost(identity)
        if before != now:
            await self.journal.note_identity(self.number, *now)
        await self._set_state("live" if self.watched else "scanned", "")

    async def _forget_lost(self, identity: Identity) -> None:
        after = b""
        while paths := await self.journal.known_paths(self.number, after, 1000):
            after = paths[-1]
            if gone := await self._in_pool(lost, self.root, self.rules, paths):
                await self._check_same(identity)
                await self.journal.forget(self.number, gone)

    async def _check_same(self, identity: Identity) -> None:
        """Whatever was looked at since `identity` was taken, it was this folder. Raises `RootMissing`."""
        if await self._in_pool(identify, self.root) != identity:
            raise RootMissing("another directory took the folder's place")

    async def _walk(self, walk: Walk, *, unhinted: bool) -> tuple[int, int]:
        """Plan all that a walk meets. Returns how many files were queued, and how many the journal knew."""
        queued = kept = 0
        chunks = iter(walk)
        while (chunk := await self._in_pool(next, chunks, None)) is not None:
            more_queued, more_kept = await self._consider(chunk, unhinted=unhinted)
            queued, kept = queued + more_queued, kept + more_kept
        return queued, kept

    # Hints, waits and retries.

    async def _follow(self) -> None:
        retries_at = 0.0
        while True:
            missing = self.state == "missing"
            await _until(self._wake, RETRY_CHECK if missing else min(self._seconds_to_due(), RETRY_CHECK))
            self._wake.clear()
            if self.state == "missing":
                # What is due stays due until the folder is back.
                await asyncio.sleep(RETRY_CHECK if missing else 0)
                continue
            if time.monotonic() >= retries_at:
                retries_at = time.monotonic() + RETRY_CHECK
                for path in await self.journal.due(self.number, self.clock(), 1000):
                    self._dirty.setdefault(path, False)
            await self.attend()

    def _seconds_to_due(self) -> float:
        if not self._due:
            return RETRY_CHECK
        at = -(-self._due[0][0] // GRID) * GRID
        return max(0.0, (at - self.clock()) / NANO)

    async def settle(self) -> None:
        """Wait for everything that waits, and plan it. For a daemon that runs once."""
        while self.waiting:
            if not self._dirty:
                await asyncio.sleep(self._seconds_to_due())
            await self.attend()

    async def attend(self) -> None:
        """Look at what was hinted at, and at what was to be looked at again by now."""
        hinted, self._dirty = self._dirty, {}
        now = self.clock()
        paths = set(hinted)
        while self._due and self._due[0][0] <= now:
            paths.add(heapq.heappop(self._due)[1])
        if not paths:
            return
        looked = await self._in_pool(look, self.root, self.rules, sorted(paths))
        await self._consider(looked.chunk, unhinted=False)
        if gone := [*looked.gone, *await self._once_files(looked.directories)]:
            await self._forget(gone)
        for path in looked.directories:
            self._waiting.pop(path, None)
            if hinted.get(path):
                self._wait(path, _Waiting(Seen("", now), now + NEW_DIRECTORY_AGAIN, 0))
            await self._walk(Walk(self.root, self.rules, path, clock=self.clock), unhinted=False)
        for path in paths:
            # What was looked at and is no file to wait for (blocked, unwanted) waits no longer.
            if (waiting := self._waiting.get(path)) is not None and waiting.until_ns <= now:
                del self._waiting[path]

    async def _once_files(self, directories: list[bytes]) -> list[bytes]:
        """Those of these directories that the journal knows as files: nothing else would end their retries."""
        if not directories:
            return []
        recall = await self.journal.recall(self.number, directories)
        return [*recall.stored.keys() | recall.failures.keys()]

    async def _forget(self, gone: list[bytes]) -> None:
        for path in gone:
            self._waiting.pop(path, None)
        try:
            identity = await self._in_pool(identify, self.root)
        except RootMissing:
            self.want_scan()
            return
        scanned = await self.journal.identity(self.number)
        if scanned == (identity.device, identity.inode):
            await self.journal.forget(self.number, gone)
        elif scanned is not None:
            # Another directory took the folder's place; a scan says what that means.
            self.want_scan()

    # Planning.

    async def _consider(self, chunk: Chunk, *, unhinted: bool) -> tuple[int, int]:
        """Plan a chunk and act on it. Returns how many files were queued, and how many the journal knew."""
        if not len(chunk):
            return 0, 0
        paths = [entry.path for entry in chunk.entries] + [blocked.path for blocked in chunk.blocked]
        recall = await self.journal.recall(self.number, paths)
        for blocked in chunk.blocked:
            await self._block(blocked, recall.failures.get(blocked.path))
        queued = 0
        for entry in chunk.entries:
            queued += await self._act(entry, recall, unhinted=unhinted)
        return queued, len(recall.stored.keys() | recall.failures.keys())

    async def _block(self, blocked: Blocked, failure: Failure | None) -> None:
        """Say that a path cannot be looked at. Where a failed file was to be tried again, this was its try."""
        if failure is not None and failure.retry_ns <= self.clock():
            attempts, first_ns = failure.attempts, failure.first_ns
            missed = self.transfer.missed(
                self.number, blocked.path, failure.change_key, blocked, attempts=attempts, first_ns=first_ns
            )
            self.tell(await missed)
            return
        self.blocked[blocked.path] = blocked.why
        self._log.warning("blocked", path=shown(blocked.path), why=blocked.why)

    async def _act(self, entry: Entry, recall: Recall, *, unhinted: bool) -> bool:
        before = self._waiting.get(entry.path)
        failure = recall.failures.get(entry.path)
        action = decide(
            entry,
            stored=recall.stored.get(entry.path),
            failure=failure,
            seen=before.seen if before else None,
            policy=self.policy,
            now_ns=self.clock(),
        )
        if unhinted and before is None and isinstance(action, Upload | Wait):
            self.counts.by_scan += 1
        match action:
            case Keep():
                self._waiting.pop(entry.path, None)
            case Wait():
                await self._await_quiet(action, before, failure)
            case Refuse():
                self._waiting.pop(entry.path, None)
                self.tell(await self.transfer.missed(self.number, entry.path, entry.change_key, action.problem))
            case Upload():
                self._waiting.pop(entry.path, None)
                await self.transfer.submit(self._task(action, failure))
                return True
            case _:
                assert_never(action)
        return False

    def _task(self, action: Upload, failure: Failure | None) -> Task:
        return Task(
            root=self.number,
            path=self.root.rstrip(b"/") + b"/" + action.entry.path,
            entry=action.entry,
            name=action.name,
            reason=action.reason,
            attempts=failure.attempts if failure else 0,
            first_ns=failure.first_ns if failure else 0,
        )

    async def _await_quiet(self, wait: Wait, before: _Waiting | None, failure: Failure | None) -> None:
        path = wait.entry.path
        changed = before is not None and before.seen.change_key != wait.seen.change_key
        changes = (before.changes if before else 0) + changed
        if not self.policy.patient and changes > MAX_CHANGES:
            self._waiting.pop(path, None)
            attempts = failure.attempts if failure else 0
            error = SourceChanged("it is still being written")
            key = wait.entry.change_key
            self.tell(await self.transfer.missed(self.number, path, key, error, attempts=attempts))
            return
        self._wait(path, _Waiting(wait.seen, wait.until_ns, changes))

    def _wait(self, path: bytes, waiting: _Waiting) -> None:
        before = self._waiting.get(path)
        if before is None and len(self._waiting) >= MAX_WAITING:
            self.want_scan()
            return
        self._waiting[path] = waiting
        if before is None or before.until_ns != waiting.until_ns:
            heapq.heappush(self._due, (waiting.until_ns, path))
            self._wake.set()

    async def _set_state(self, state: str, detail: str) -> None:
        if state == self.state:
            return
        self.state, self.detail = state, detail
        if state in ("missing", "empty"):
            self._log.error("folder_" + state, why=detail)
        await self.journal.note_state(self.number, state, detail)

    async def _in_pool(self, do: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.pool, do, *args)


async def _until(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, but not longer than this."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
