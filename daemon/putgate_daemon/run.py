"""Composition: settings → folders, journal and engine, running together. Decides nothing itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import assert_never

import structlog

from putgate.client import Client
from putgate.options import Options
from putgate_daemon.entries import shown
from putgate_daemon.errors import FoldersError, RootMissing, TrustError
from putgate_daemon.folder import FolderSync
from putgate_daemon.health import Metrics, serve
from putgate_daemon.journal.journal import Journal
from putgate_daemon.journal.progress import JournalProgress
from putgate_daemon.plan import Policy
from putgate_daemon.rules import OwnFiles, Rules, below
from putgate_daemon.token_file import TokenFile
from putgate_daemon.transfer import Done, Missed, Outcome, Task, Transfer, Vanished
from putgate_daemon.watch import Hint
from putgate_protocol.settings.daemon import DaemonSettings, Server

LOOKERS = 2
"""Threads for lstat and listings: one disk seldom answers more at once, and the other cores are for hashing."""

CHANGES = 5
"""Run once: how often a file may change, or go, under its upload and be looked at again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a single run could not store: a file, a directory or a whole folder."""

    path: str
    code: str
    detail: str


@dataclass(slots=True, kw_only=True)
class Report:
    """What became of a single run."""

    uploaded: int = 0
    """Files that were sent; `existed`: found stored already."""
    existed: int = 0
    sent: int = 0
    failures: list[Failure] = field(default_factory=list)


class Listener:
    """Hears what became of files: logs and counts it, and passes on what has to be looked at again."""

    def __init__(self, *, patient: bool) -> None:
        self._patient = patient
        self._log = structlog.get_logger()
        self._changes: dict[tuple[int, bytes], int] = {}
        self._missed: dict[tuple[int, bytes], Missed] = {}
        self.metrics: Metrics | None = None
        self.folders: dict[int, FolderSync] = {}
        self.report = Report()

    def tell(self, outcome: Outcome) -> None:
        if self.metrics is not None:
            self.metrics.count(outcome)
        match outcome:
            case Done():
                self._done(outcome)
            case Missed():
                self._failed(outcome)
            case Vanished():
                self._log.info("vanished", name=str(outcome.task.name))
                if not self._patient:
                    # Perhaps the whole folder went: nothing watches it in a single run, so a look has to find out.
                    self._once_again(outcome.task.root, outcome.task.entry.path)
            case _:
                assert_never(outcome)

    def again(self, task: Task) -> None:
        self.folders[task.root].hint([Hint(task.entry.path, made=False)])

    def _done(self, done: Done) -> None:
        self._log.info(
            "uploaded",
            name=str(done.task.name),
            size=done.size,
            how=done.how,
            sent=done.sent,
            ms=round(done.took * 1000),
            reason=done.task.reason.value,
        )
        if not self._patient:
            self._missed.pop((done.task.root, done.task.entry.path), None)
            if done.how == "exists":
                self.report.existed += 1
            else:
                self.report.uploaded += 1
            self.report.sent += done.sent

    def _failed(self, missed: Missed) -> None:
        retry_in = None if missed.retry_in is None or not self._patient else round(missed.retry_in, 1)
        self._log.warning(
            "failed",
            path=shown(missed.path),
            code=missed.code,
            detail=missed.detail,
            attempts=missed.attempts,
            retry_in=retry_in,
        )
        if not self._patient:
            self._once_failed(missed)

    def _once_failed(self, missed: Missed) -> None:
        """There is no next try later, so a file that changed under its upload gets its next one in this run."""
        self._missed[missed.root, missed.path] = missed
        if missed.code == "source_changed":
            self._once_again(missed.root, missed.path)

    def _once_again(self, root: int, path: bytes) -> None:
        """Look at a file again, but not for ever."""
        changes = self._changes[root, path] = self._changes.get((root, path), 0) + 1
        if changes <= CHANGES:
            self.folders[root].hint([Hint(path, made=False)])

    def failures(self) -> list[Failure]:
        """All that a single run could not store."""
        failures = []
        for folder in self.folders.values():
            root = shown(folder.root)
            if folder.state in ("missing", "empty"):
                failures.append(Failure(path=root, code=f"folder_{folder.state}", detail=folder.detail))
            for path, why in folder.blocked.items():
                failures.append(Failure(path=f"{root}/{shown(path)}", code="blocked", detail=why))
        for missed in self._missed.values():
            full = f"{shown(self.folders[missed.root].root)}/{shown(missed.path)}"
            failures.append(Failure(path=full, code=missed.code, detail=missed.detail))
        return failures


ENGINE_PATIENCE = timedelta(minutes=10)
"""How long one file may keep its place in the engine while it fails. Then it waits its turn like any failed file, is
shown by `status`, and is tried again for ever. Longer, and a few files that a store never takes hold up all others;
shorter, and an outage costs large files the parts under way more often.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """All that runs together."""

    folders: Sequence[FolderSync]
    transfer: Transfer
    metrics: Metrics
    listener: Listener


@contextlib.asynccontextmanager
async def compose(
    settings: DaemonSettings, config: Path, *, patient: bool, give_up_after: timedelta | None = None
) -> AsyncIterator[Sync]:
    """Put everything together; nothing runs yet and nobody is called. `config`: the settings' own file, never uploaded.

    Raises `DaemonError`.
    """
    token = TokenFile(settings.server.token_file) if settings.server.token_file else None
    rules = folder_rules(settings, config)
    listener = Listener(patient=patient)
    loop = asyncio.get_running_loop()

    def rebuild(aside: Path) -> None:
        structlog.get_logger().error("journal_set_aside", moved_to=str(aside), why="it was damaged; scanning anew")
        for folder in listener.folders.values():
            folder.want_scan()

    def set_aside(aside: Path) -> None:
        loop.call_soon_threadsafe(rebuild, aside)

    async with contextlib.AsyncExitStack() as stack:
        journal = await Journal.open(settings.journal.absolute(), set_aside)
        stack.push_async_callback(journal.close)
        pool = stack.enter_context(ThreadPoolExecutor(LOOKERS, thread_name_prefix="look"))
        options = Options(concurrency=settings.transfers.concurrency, give_up_after=give_up_after)
        client = await stack.enter_async_context(_client(settings.server, token, options))
        transfer = Transfer(
            engine=lambda: client.engine(JournalProgress(journal)),
            journal=journal,
            tell=listener.tell,
            again=listener.again,
        )
        folders = []
        for folder, its_rules in zip(settings.folders, rules, strict=True):
            root = os.fsencode(folder.path)
            number = await journal.attach(root, f"{settings.server.url.rstrip('/')} {folder.prefix}")
            listener.folders[number] = FolderSync(
                root=root,
                number=number,
                rules=its_rules,
                policy=Policy(prefix=folder.prefix.encode(), settle=folder.settle, patient=patient),
                rescan=folder.rescan,
                journal=journal,
                transfer=transfer,
                pool=pool,
                tell=listener.tell,
            )
            folders.append(listener.folders[number])
        listener.metrics = Metrics(folders, transfer)
        yield Sync(folders=folders, transfer=transfer, metrics=listener.metrics, listener=listener)


def _client(server: Server, token: TokenFile | None, options: Options) -> Client:
    try:
        return Client(server.url, token=token, options=options, ca_file=server.ca_file)
    except OSError as error:
        raise TrustError(f"CA file {server.ca_file}: {error.strerror}") from error
    except ValueError as error:
        raise TrustError(f"CA file: {error}") from error


def folder_rules(settings: DaemonSettings, config: Path) -> list[Rules]:
    """The rules of each folder: its own, the daemon's files, and that a folder inside another belongs to itself alone.

    Raises `RuleError`, `FoldersError`.
    """
    roots = [os.path.realpath(os.fsencode(folder.path)) for folder in settings.folders]
    if len(set(roots)) < len(roots):
        raise FoldersError("two folders lead to the same directory")
    private = [path for path in (settings.server.token_file, config) if path is not None]
    others = [os.path.realpath(os.fsencode(path)) for path in private]
    journal = os.path.realpath(os.fsencode(settings.journal))
    rules = []
    for folder, root in zip(settings.folders, roots, strict=True):
        nested = [inner for other in roots if (inner := below(root, other)) is not None]
        rules.append(Rules(folder.rules, OwnFiles(root, journal, others), nested))
    return rules


async def run(settings: DaemonSettings, config: Path, stop: asyncio.Event) -> None:
    """Keep the folders uploaded until `stop`. Raises `DaemonError`, `OSError` where the health port is taken."""
    log = structlog.get_logger()
    async with (
        compose(settings, config, patient=True, give_up_after=ENGINE_PATIENCE) as sync,
        serve(settings.health, sync.folders, sync.metrics) as port,
    ):
        log.info("started", folders=[shown(folder.root) for folder in sync.folders], health_port=port)
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(sync.transfer.run())]
            running += [group.create_task(folder.run()) for folder in sync.folders]
            await stop.wait()
            log.info("stopping", pending=sync.transfer.pending)
            for task in running:
                task.cancel()
    log.info("stopped")


async def once(settings: DaemonSettings, config: Path, *, give_up_after: timedelta | None) -> Report:
    """Upload what is new and changed now, waiting for files to come to rest. Raises `DaemonError`."""
    async with compose(settings, config, patient=False, give_up_after=give_up_after) as sync:
        async with asyncio.TaskGroup() as group:
            moving = group.create_task(sync.transfer.run())
            await asyncio.gather(*(_scan(folder) for folder in sync.folders))
            while True:
                await asyncio.gather(*(folder.settle() for folder in sync.folders))
                await sync.transfer.idle()
                again = [folder for folder in sync.folders if folder.scan_wanted]
                await asyncio.gather(*(_scan(folder) for folder in again))
                if not again and not any(folder.waiting for folder in sync.folders):
                    break
            moving.cancel()
        report = sync.listener.report
        report.failures = sync.listener.failures()
        structlog.get_logger().info(
            "finished",
            uploaded=report.uploaded,
            existed=report.existed,
            sent=report.sent,
            failed=len(report.failures),
        )
        return report


async def _scan(folder: FolderSync) -> None:
    with contextlib.suppress(RootMissing):
        await folder.scan()
