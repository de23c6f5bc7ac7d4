import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from putgate_daemon.watch import Hint, WatchFailed, watch


class Watched:
    def __init__(self) -> None:
        self.hints: list[Hint] = []
        self.armed = asyncio.Event()
        self.changed = asyncio.Event()

    def hear(self, hints: list[Hint]) -> None:
        self.hints += hints
        self.changed.set()

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not done():
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def watching(root: bytes) -> AsyncIterator[Watched]:
    watched = Watched()
    task = asyncio.create_task(watch(root, armed=watched.armed.set, hints=watched.hear))
    try:
        async with asyncio.timeout(10):
            await watched.armed.wait()
        yield watched
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, WatchFailed):
            await task


async def test_new_changed_moved_and_removed_files_are_hinted(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("1")
    (tmp_path / "gone").write_text("1")
    async with watching(os.fsencode(tmp_path)) as watched:
        (tmp_path / "new").write_text("1")
        (tmp_path / "old").write_text("2")
        (tmp_path / "gone").unlink()
        (tmp_path / "x.part").write_text("1")
        (tmp_path / "x.part").rename(tmp_path / "x")
        await watched.until(lambda: {b"new", b"old", b"gone", b"x"} <= {hint.path for hint in watched.hints})
    assert {hint.path for hint in watched.hints if hint.made} >= {b"new", b"x"}


async def test_a_new_directory_is_hinted_as_made(tmp_path: Path) -> None:
    async with watching(os.fsencode(tmp_path)) as watched:
        (tmp_path / "d").mkdir()
        await watched.until(lambda: Hint(b"d", made=True) in watched.hints)


async def test_what_lies_behind_a_link_out_of_the_folder_is_no_hint(tmp_path: Path) -> None:
    root, outside = tmp_path / "in", tmp_path / "outside"
    root.mkdir()
    (outside / "deep").mkdir(parents=True)
    (root / "link").symlink_to(outside)
    async with watching(os.fsencode(root)) as watched:
        (outside / "a").write_text("1")
        (outside / "deep" / "b").write_text("1")
        (root / "last").write_text("1")
        await watched.until(lambda: b"last" in {hint.path for hint in watched.hints})
    assert {hint.path for hint in watched.hints} == {b"last"}


@pytest.mark.parametrize("given", ["in", "to-in"])
async def test_what_a_link_into_the_folder_leads_to_is_hinted_by_its_own_name(tmp_path: Path, given: str) -> None:
    """The library tells of a directory under the name that it found last, here one behind the link."""
    root = tmp_path / "in"
    (root / "d").mkdir(parents=True)
    (root / "up").symlink_to("..")
    (tmp_path / "to-in").symlink_to("in")
    async with watching(os.fsencode(tmp_path / given)) as watched:
        (root / "new").write_text("1")
        (root / "d" / "new").write_text("1")
        await watched.until(lambda: {b"new", b"d/new"} <= {hint.path for hint in watched.hints})
    assert {hint.path for hint in watched.hints} == {b"new", b"d/new"}


async def test_it_stops_when_cancelled(tmp_path: Path) -> None:
    async with asyncio.timeout(5), watching(os.fsencode(tmp_path)):
        pass


async def test_a_missing_root_fails(tmp_path: Path) -> None:
    with pytest.raises(WatchFailed):
        await watch(os.fsencode(tmp_path / "none"), armed=lambda: None, hints=lambda _: None)


async def test_a_name_that_is_not_utf8_ends_it_with_a_reason(tmp_path: Path) -> None:
    """A fact about the library, which the daemon answers by scanning; when it passes no more, that can go."""
    armed = asyncio.Event()
    task = asyncio.create_task(watch(os.fsencode(tmp_path), armed=armed.set, hints=lambda _: None))
    async with asyncio.timeout(10):
        await armed.wait()
        os.close(os.open(os.fsencode(tmp_path) + b"/\xff", os.O_CREAT | os.O_WRONLY))
        with pytest.raises(WatchFailed, match="decode"):
            await task


async def test_a_root_that_is_not_utf8_fails_without_harm(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(root)  # noqa: PTH102
    with pytest.raises(WatchFailed):
        await watch(root, armed=lambda: None, hints=lambda _: None)
