"""What is submitted while its name is under way is neither sent twice nor forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from putgate import errors
from putgate.errors import ClientError, StoreRefused
from putgate.upload.job import Failed, Job, Uploaded
from putgate_daemon.journal.journal import Journal
from putgate_daemon.plan import Reason
from putgate_daemon.transfer import Done, Missed, Outcome, Task, Transfer, explain
from putgate_protocol.messages.base import File
from putgate_protocol.names import Name
from tests.daemon.made import entry


class HeldEngine:
    """Stores each job when it is let go, or fails it with `error`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.jobs: list[Job] = []
        self.taken = asyncio.Event()
        self.go = asyncio.Event()

    async def upload_many(self, jobs: AsyncIterator[Job]) -> AsyncIterator[Uploaded | Failed]:
        async for job in jobs:
            self.jobs.append(job)
            self.taken.set()
            await self.go.wait()
            if self.error is not None:
                yield Failed(job=job, error=self.error)
                continue
            file = File(name=str(job.name), size=5, file_hash="0" * 64)
            yield Uploaded(job=job, file=file, how="put", sent_bytes=5, change_key=entry().change_key)


def task(root: int = 1, folder: bytes = b"/one/", *, mtime: float = 0) -> Task:
    found = entry(mtime=mtime)
    return Task(root=root, path=folder + found.path, entry=found, name=Name(b"in/a"), reason=Reason.NEW)


@pytest.mark.parametrize(
    ("later", "again"),
    [
        ([task(), task()], []),
        ([task(mtime=7)], [task(mtime=7)]),
        ([task(mtime=7), task(mtime=8)], [task(mtime=8)]),
        ([task(2, b"/two/")], [task(2, b"/two/")]),
        ([task(mtime=7), task(2, b"/two/"), task()], [task(mtime=7), task(2, b"/two/")]),
    ],
    ids=["the same", "changed", "changed twice", "another folder's", "all of these"],
)
async def test_other_content_under_a_name_that_is_under_way(
    tmp_path: Path, later: list[Task], again: list[Task]
) -> None:
    told: list[Outcome] = []
    looked: list[Task] = []
    engine = HeldEngine()
    journal = await Journal.open(tmp_path / "journal")
    try:
        number = {folder: await journal.attach(folder, "in/") for folder in (b"/one", b"/two")}
        assert list(number.values()) == [1, 2]
        transfer = Transfer(engine=lambda: engine, journal=journal, tell=told.append, again=looked.append)
        running = asyncio.create_task(transfer.run())
        await transfer.submit(task())
        await asyncio.wait_for(engine.taken.wait(), 60)
        for another in later:
            await transfer.submit(another)
        assert transfer.pending == 1
        engine.go.set()
        await asyncio.wait_for(transfer.idle(), 60)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    finally:
        await journal.close()
    assert looked == again
    assert [type(outcome) for outcome in told] == [Done]
    assert len(engine.jobs) == 1


@pytest.mark.parametrize(
    "kind", [it for it in vars(errors).values() if isinstance(it, type) and issubclass(it, ClientError)]
)
async def test_whatever_the_client_says_of_one_file_stops_no_other(tmp_path: Path, kind: type[ClientError]) -> None:
    error = kind("no", status=403) if issubclass(kind, StoreRefused) else kind("no")
    told: list[Outcome] = []
    engine = HeldEngine(error)
    engine.go.set()
    journal = await Journal.open(tmp_path / "journal")
    try:
        number = await journal.attach(b"/one", "in/")
        transfer = Transfer(engine=lambda: engine, journal=journal, tell=told.append, again=lambda _: None)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            running = group.create_task(transfer.run())
            await transfer.submit(task(number))
            await transfer.idle()
            running.cancel()
        [noted] = (await journal.recall(number, [b"a"])).failures.values()
    finally:
        await journal.close()
    assert [(missed.code, missed.attempts) for missed in told if isinstance(missed, Missed)] == [(noted.code, 1)]
    assert noted.code


def test_what_is_no_failure_of_a_file_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        explain(ZeroDivisionError())
