"""One folder with a real journal and a real tree; the engine is never reached, as nothing here gets that far."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from putgate_daemon.entries import Entry
from putgate_daemon.errors import RootMissing
from putgate_daemon.folder import FolderSync
from putgate_daemon.journal.journal import Journal
from putgate_daemon.plan import Policy
from putgate_daemon.rules import Rules
from putgate_daemon.settle import NANO
from putgate_daemon.transfer import Engine, Missed, Outcome, Transfer
from putgate_daemon.watch import Hint
from tests.daemon.made import failure, stored


class Home:
    def __init__(self, root: Path, journal: Journal, number: int, pool: ThreadPoolExecutor) -> None:
        self.root, self.journal, self.number = root, journal, number
        self.outcomes: list[Outcome] = []
        self.clock: Callable[[], int] = time.time_ns
        self.folder = FolderSync(
            root=os.fsencode(root),
            number=number,
            rules=Rules(["*.log"]),
            policy=Policy(prefix=b"", settle=timedelta(hours=1)),
            rescan=timedelta(hours=1),
            journal=journal,
            transfer=Transfer(
                engine=_no_engine,
                journal=journal,
                tell=self.outcomes.append,
                again=lambda _: None,
                clock=self._now,
            ),
            pool=pool,
            tell=self.outcomes.append,
            clock=self._now,
        )

    def _now(self) -> int:
        return self.clock()

    async def know(self, *names: str) -> None:
        """Files that are stored already."""
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            key = Entry.of(name.encode(), path.stat(), 0).change_key
            await self.journal.note_stored(self.number, name.encode(), stored(key))

    async def known(self) -> list[bytes]:
        return await self.journal.known_paths(self.number, b"", 1000)


def _no_engine() -> Engine:
    raise AssertionError("nothing is to be uploaded here")


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    (tmp_path / "in").mkdir()
    journal = await Journal.open(tmp_path / "j.db")
    number = await journal.attach(os.fsencode(tmp_path / "in"), "x")
    with ThreadPoolExecutor(2) as pool:
        yield Home(tmp_path / "in", journal, number, pool)
    await journal.close()


async def test_what_is_gone_or_no_longer_wanted_is_forgotten_by_a_scan(home: Home) -> None:
    await home.know("a", "d/b", "old.log")
    await home.folder.scan()
    assert await home.known() == [b"a", b"d/b"]
    (home.root / "a").unlink()
    await home.folder.scan()
    assert await home.known() == [b"d/b"]
    assert home.folder.state == "scanned"


async def test_a_root_that_goes_away_during_a_scan_loses_nothing(home: Home) -> None:
    await home.know("a", "b", "c/d")
    await home.folder.scan()
    away = home.root.with_name("away")

    def clock() -> int:
        if home.folder.state == "scanning" and home.root.exists():
            home.root.rename(away)
        return time.time_ns()

    home.clock = clock
    with pytest.raises(RootMissing):
        await home.folder.scan()
    assert home.folder.state == "missing"
    assert await home.known() == [b"a", b"b", b"c/d"]


async def test_an_empty_directory_in_its_place_forgets_nothing_and_a_full_one_is_taken(home: Home) -> None:
    await home.know("a", "b")
    await home.folder.scan()
    home.root.rename(home.root.with_name("away"))
    home.root.mkdir()
    await home.folder.scan()
    assert home.folder.state == "empty"
    assert await home.known() == [b"a", b"b"]
    await home.know("other")
    await home.folder.scan()
    assert home.folder.state == "scanned"
    # Only the next scan may take what is missing now for gone.
    assert await home.known() == [b"a", b"b", b"other"]
    await home.folder.scan()
    assert await home.known() == [b"other"]


async def test_a_hint_of_something_gone_forgets_it_and_all_below(home: Home) -> None:
    await home.know("a", "d/b", "d/c")
    await home.folder.scan()
    for name in ("d/b", "d/c", "a"):
        (home.root / name).unlink()
    (home.root / "d").rmdir()
    home.folder.hint([Hint(b"d", made=False)])
    await home.folder.attend()
    assert await home.known() == [b"a"]


async def test_hints_while_the_root_is_away_forget_nothing(home: Home) -> None:
    await home.know("a")
    await home.folder.scan()
    home.root.rename(home.root.with_name("away"))
    home.folder.hint([Hint(b"a", made=False)])
    await home.folder.attend()
    assert await home.known() == [b"a"]


async def test_a_young_file_waits_and_an_unchanged_one_does_not(home: Home) -> None:
    await home.know("old")
    (home.root / "young").write_text("1")
    await home.folder.scan()
    assert home.folder.waiting == 1
    (home.root / "young").unlink()
    home.folder.hint([Hint(b"young", made=False)])
    await home.folder.attend()
    assert home.folder.waiting == 0


async def test_a_failed_file_that_cannot_be_looked_at_is_put_off_like_any_other(home: Home) -> None:
    path = b"x" * 300  # longer than any name that can be looked at
    await home.journal.note_failure(home.number, path, failure("k", retry=1000, attempts=4))
    tries = 0
    for now in (1000, 1001, 100_000, 100_001):
        home.clock = partial(int, now * NANO)
        for due in await home.journal.due(home.number, home.clock(), 10):
            tries += 1
            home.folder.hint([Hint(due, made=False)])
        await home.folder.attend()
    assert tries == 2
    assert [(missed.code, missed.attempts) for missed in home.outcomes if isinstance(missed, Missed)] == [
        ("blocked", 5),
        ("blocked", 6),
    ]
    [noted] = (await home.journal.recall(home.number, [path])).failures.values()
    assert (noted.change_key, noted.detail, noted.first_ns) == ("k", "File name too long", 900 * NANO)
    assert home.folder.blocked == {}


async def test_what_becomes_a_directory_is_no_failed_file_any_more(home: Home) -> None:
    await home.folder.scan()
    await home.journal.note_failure(home.number, b"d", failure("k", retry=5))
    (home.root / "d").mkdir()
    (home.root / "d" / "young").write_text("1")
    [due] = await home.journal.due(home.number, home.clock(), 10)
    home.folder.hint([Hint(due, made=False)])
    await home.folder.attend()
    assert await home.journal.due(home.number, home.clock(), 10) == []
    assert home.folder.waiting == 1


async def test_a_name_that_can_never_be_stored_is_told_once(home: Home) -> None:
    (home.root / ".putgate").mkdir()
    (home.root / ".putgate" / "x").write_text("1")
    await home.folder.scan()
    await home.folder.scan()
    assert [type(outcome).__name__ for outcome in home.outcomes] == ["Missed"]
    assert await home.journal.count(home.number) == (0, 1)


async def test_more_files_than_can_wait_are_found_by_another_scan(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("putgate_daemon.folder.MAX_WAITING", 2)
    for name in ("a", "b", "c"):
        (home.root / name).write_text("1")
    await home.folder.scan()
    assert home.folder.waiting == 2
    assert home.folder.scan_wanted
    monkeypatch.setattr("putgate_daemon.folder.MAX_WAITING", 10)
    await home.folder.scan()
    assert home.folder.waiting == 3
    assert not home.folder.scan_wanted


async def test_a_missing_folder_is_waited_for_at_rest(home: Home) -> None:
    """Also with something overdue, which can only be looked at once the folder is back."""
    (home.root / "young").write_text("1")
    await home.folder.scan()
    home.folder._due[0] = (0, b"young")
    home.root.rename(home.root.with_name("away"))
    with pytest.raises(RootMissing):
        await home.folder.scan()
    before = time.process_time()
    following = asyncio.create_task(home.folder._follow())
    await asyncio.wait([following], timeout=1.5)
    assert not following.done()
    following.cancel()
    assert time.process_time() - before < 1.0
