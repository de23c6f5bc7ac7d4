"""What is submitted while its name is under way is neither sent twice nor forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from putgate.upload.job import Failed, Job, Uploaded
from putgate_daemon.journal.journal import Journal
from putgate_daemon.plan import Reason
from putgate_daemon.transfer import Done, Outcome, Task, Transfer
from putgate_protocol.messages.base import File
from putgate_protocol.names import Name
from tests.daemon.made import entry


class HeldEngine:
    """Stores each job when it is let go."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.taken = asyncio.Event()
        self.go = asyncio.Event()

    async def upload_many(self, jobs: AsyncIterator[Job]) -> AsyncIterator[Uploaded | Failed]:
        async for job in jobs:
            self.jobs.append(job)
            self.taken.set()
            await self.go.wait()
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
