import asyncio
import dataclasses
import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from putgate.upload.progress import Known
from putgate_daemon.errors import JournalError, JournalInUse, JournalTooNew
from putgate_daemon.journal import report, worker
from putgate_daemon.journal.journal import Journal
from putgate_daemon.journal.progress import JournalProgress
from putgate_daemon.journal.records import ScanRecord
from putgate_protocol.digests import Md5, PartHash
from putgate_protocol.names import Name
from tests.daemon.made import failure, stored


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(tmp_path / "state" / "j.db")
    yield opened
    await opened.close()


async def test_what_is_noted_is_recalled_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = await Journal.open(path)
    root = await journal.attach(b"/data/\xff", "http://api in/")
    await journal.note_stored(root, b"a/\xfe\n", stored("k1", file_hash="ab"))
    await journal.note_failure(root, b"b", failure("k2", retry=5))
    await journal.note_identity(root, 2**64 - 1, 2**63)
    await journal.close()

    journal = await Journal.open(path)
    assert await journal.attach(b"/data/\xff", "http://api in/") == root
    recall = await journal.recall(root, [b"a/\xfe\n", b"b", b"c"])
    assert recall.stored == {b"a/\xfe\n": stored("k1", file_hash="ab")}
    assert recall.failures == {b"b": failure("k2", retry=5)}
    assert await journal.identity(root) == (2**64 - 1, 2**63)
    assert await journal.count(root) == (1, 1)
    await journal.close()


async def test_a_message_that_is_no_text_is_kept_as_one_that_is(journal: Journal) -> None:
    root = await journal.attach(b"/d", "x")
    detail = os.fsdecode(b"/d/\xff is gone")
    await journal.note_failure(root, b"a", dataclasses.replace(failure("k", retry=5), detail=detail))
    await journal.note_state(root, "waiting", detail)
    [noted] = (await journal.recall(root, [b"a"])).failures.values()
    assert noted.detail == "/d/\\udcff is gone"


async def test_recall_takes_more_paths_than_one_statement_does(journal: Journal) -> None:
    root = await journal.attach(b"/d", "x")
    paths = [b"%d" % number for number in range(3000)]
    for path in paths[::2]:
        await journal.note_stored(root, path, stored("k"))
    assert len((await journal.recall(root, paths)).stored) == 1500


async def test_storing_ends_a_failure(journal: Journal) -> None:
    root = await journal.attach(b"/d", "x")
    await journal.note_failure(root, b"a", failure("k", retry=5))
    assert await journal.due(root, 5 * 10**9, 10) == [b"a"]
    await journal.note_stored(root, b"a", stored("k"))
    assert await journal.count(root) == (1, 0)


async def test_due_comes_in_the_order_of_time(journal: Journal) -> None:
    root = await journal.attach(b"/d", "x")
    for path, retry in ((b"late", 9), (b"second", 2), (b"first", 1)):
        await journal.note_failure(root, path, failure("k", retry=retry))
    assert await journal.due(root, 3 * 10**9, 10) == [b"first", b"second"]


async def test_forgetting_a_directory_forgets_what_is_below_and_nothing_beside(journal: Journal) -> None:
    root = await journal.attach(b"/d", "x")
    other = await journal.attach(b"/e", "x")
    for path in (b"d", b"d/a", b"d/b/c", b"d.txt", b"d0", b"dd"):
        await journal.note_stored(root, path, stored("k"))
    await journal.note_stored(other, b"d/a", stored("k"))
    await journal.forget(root, [b"d"])
    assert await journal.known_paths(root, b"", 100) == [b"d.txt", b"d0", b"dd"]
    assert await journal.known_paths(root, b"d.txt", 1) == [b"d0"]
    assert await journal.count(other) == (1, 0)


async def test_another_destination_forgets_what_was_stored_at_the_old_one(journal: Journal) -> None:
    root = await journal.attach(b"/d", "http://one in/")
    await journal.note_stored(root, b"a", stored("k"))
    assert await journal.attach(b"/d", "http://two in/") == root
    assert await journal.count(root) == (0, 0)


async def test_progress_of_an_upload(journal: Journal) -> None:
    progress = JournalProgress(journal)
    name = Name.parse(b"big\xff")
    assert await progress.load(name) is None
    hashes = tuple(PartHash.of(b"%d" % number) for number in range(5))
    for known in (
        Known(change_key="c", part_size=8, part_hashes=hashes[:2], upload_id=None),
        Known(change_key="c", part_size=8, part_hashes=hashes, upload_id="u1"),
        Known(
            change_key="c",
            part_size=8,
            part_hashes=hashes[:2],
            upload_id=None,
            part_md5s=(Md5.of(b"1"), Md5.of(b"2")),
        ),
    ):
        await progress.save(name, known)
        assert await progress.load(name) == known
    await progress.forget(name)
    await journal.flush()
    assert await progress.load(name) is None


async def test_a_second_daemon_is_refused_and_told_by_whom(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(JournalInUse, match=f"in use by another daemon .process {os.getpid()}"):
        await Journal.open(tmp_path / "state" / "j.db")
    assert worker.holder(tmp_path / "state" / "j.db") == os.getpid()


async def test_who_only_looks_keeps_no_daemon_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look is `putgate-daemon status`, caught while it holds its share of the lock."""
    monkeypatch.setattr(worker, "LOOKED_AT", 60)
    path = tmp_path / "j.db"
    with worker.lock_path(path).open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        opening = asyncio.create_task(Journal.open(path))
        await asyncio.sleep(0)  # its first try
        assert not opening.done()
    journal = await opening
    assert worker.holder(path) == os.getpid()
    await journal.close()


async def test_the_lock_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await (await Journal.open(path)).close()
    assert worker.holder(path) is None
    await (await Journal.open(path)).close()


async def test_a_journal_of_version_1_goes_on_with_what_it_knows(tmp_path: Path) -> None:
    path, name = tmp_path / "j.db", Name.parse(b"big")
    known = Known(change_key="c", part_size=8, part_hashes=(PartHash.of(b"1"),), upload_id="u1")
    journal = await Journal.open(path)
    await JournalProgress(journal).save(name, known)
    await journal.close()
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE uploads DROP COLUMN part_md5s")
        db.execute("PRAGMA user_version = 1")
    db.close()
    for _ in range(2):
        journal = await Journal.open(path)
        assert await JournalProgress(journal).load(name) == known
        await journal.close()
    assert [p.name for p in tmp_path.glob("*corrupt*")] == []


async def test_a_newer_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await (await Journal.open(path)).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalTooNew, match="version 99"):
        await Journal.open(path)
    assert [p.name for p in tmp_path.glob("*corrupt*")] == []


@pytest.mark.parametrize(
    "content",
    [b"this is no database at all, and long enough to be read as one" * 100, b"SQLite format 3\0" + b"x" * 600],
)
async def test_what_is_no_journal_is_set_aside_and_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "j.db"
    path.write_bytes(content)
    aside: list[Path] = []
    journal = await Journal.open(path, aside.append)
    root = await journal.attach(b"/d", "x")
    assert await journal.count(root) == (0, 0)
    await journal.close()
    assert len(aside) == 1
    assert aside[0].read_bytes() == content


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
async def test_another_programs_database_is_left_as_it_is(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "j.db"
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA journal_mode = {mode}")
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.execute("PRAGMA wal_checkpoint")
    db.execute("INSERT INTO theirs VALUES (1)")
    db.commit()

    def files() -> dict[str, bytes]:
        return {found.name: found.read_bytes() for found in tmp_path.glob("j.db*") if found.name != "j.db.lock"}

    before = files()
    with pytest.raises(JournalError, match="another program's database"):
        await Journal.open(path)
    assert files() == before
    db.close()


async def test_damage_found_at_run_time_is_healed_in_place(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = await Journal.open(path)
    root = await journal.attach(b"/d", "x")
    for number in range(3000):
        await journal.note_stored(root, b"%05d" % number, stored("k" * 50))
    await journal.close()
    data = bytearray(path.read_bytes())
    for at in range(8192, len(data)):  # everything but the schema
        data[at] ^= 0xA5
    path.write_bytes(data)

    aside: list[Path] = []
    journal = await Journal.open(path, aside.append)
    root = await journal.attach(b"/d", "x")
    assert (await journal.recall(root, [b"00001"])).stored == {}
    await journal.note_stored(root, b"new", stored("k"))
    await journal.flush()
    assert len(aside) == 1
    # The folder still has its number in the new journal.
    assert await journal.identity(root) is None
    assert await journal.known_paths(root, b"", 10) == [b"new"]
    await journal.close()


async def test_a_journal_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="journal"):
        await Journal.open(tmp_path / "file" / "j.db")


async def test_a_failed_note_is_told_at_flush_and_at_the_next_note(journal: Journal) -> None:
    await journal.note(lambda db: db.execute("INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(JournalError, match="nowhere"):
        await journal.flush()
    with pytest.raises(JournalError, match="nowhere"):
        await journal.note_state(1, "live", "")
    journal._error = None


async def test_an_ask_that_cannot_be_carried_out_fails_alone(journal: Journal) -> None:
    def impossible(_: sqlite3.Connection) -> None:
        raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")

    worker = journal._worker
    asks = [worker.ask(lambda db: db.execute("SELECT 1").fetchone()), worker.ask(impossible)]
    asks.append(worker.ask(lambda db: db.execute("SELECT 2").fetchone()))
    first, failed, last = await asyncio.gather(*asks, return_exceptions=True)
    assert (first, last) == ((1,), (2,))
    assert isinstance(failed, JournalError)


async def test_kill_9_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from putgate_daemon.journal.journal import Journal
        from tests.daemon.made import stored

        async def main():
            journal = await Journal.open(Path(sys.argv[1]))
            root = await journal.attach(b"/d", "x")
            for number in range(10**9):
                await journal.note_stored(root, b"%09d" % number, stored("k"))
                if number % 100 == 99:
                    await journal.flush()
                    print(number, flush=True)
        asyncio.run(main())
    """)
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    committed = 0
    while committed < 2000:
        committed = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read().split(b"\n")
    child.wait()
    child.stdout.close()
    committed = max([committed, *(int(line) for line in rest if line)])

    aside: list[Path] = []
    journal = await Journal.open(path, aside.append)
    root = await journal.attach(b"/d", "x")
    files, _ = await journal.count(root)
    await journal.close()
    assert files > committed
    assert aside == []


async def test_report_reads_beside_a_running_daemon(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "state" / "j.db"
    root = await journal.attach(b"/d", "x")
    await journal.note_stored(root, b"a", stored("k", size=7))
    await journal.note_failure(root, b"b", failure("k", retry=5))
    await journal.note_state(root, "live", "")
    scan = ScanRecord(
        started_ns=1, finished_ns=2, files=3, size=4, symlinks=5, specials=6, unwanted=7, blocked=8, queued=9
    )
    await journal.note_scan(root, scan)
    await journal.flush()
    [status] = await asyncio.to_thread(report.read, path) or []
    assert (status.path, status.state, status.files, status.size, status.failed) == (b"/d", "live", 1, 7, 1)
    assert status.failures == {b"b": failure("k", retry=5)}
    assert status.last_scan == scan
    assert report.read(tmp_path / "none.db") is None


def test_report_of_a_journal_that_is_just_being_made(tmp_path: Path) -> None:
    (tmp_path / "j.db").touch()
    assert report.read(tmp_path / "j.db") is None


def test_report_of_a_damaged_journal_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "j.db").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(JournalError):
        report.read(tmp_path / "j.db")
