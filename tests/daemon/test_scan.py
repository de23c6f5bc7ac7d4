# ruff: noqa: PTH101, PTH103, PTH106, PTH108, PTH116, PTH118, PTH120, PTH123
import os
import socket
import sys
from pathlib import Path

import pytest

from putgate_daemon.entries import Blocked, shown
from putgate_daemon.errors import RootMissing
from putgate_daemon.rules import Rules
from putgate_daemon.scan import CHUNK, Walk, identify, look, lost

ROOT = os.geteuid() == 0


def walk(root: Path, rules: Rules | None = None, start: bytes = b"") -> tuple[list[bytes], Walk]:
    scanned = Walk(os.fsencode(root), rules or Rules(), start)
    return [entry.path for chunk in scanned for entry in chunk.entries], scanned


def make(root: Path, *names: bytes) -> None:
    for name in names:
        path = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name)


def test_files_come_in_the_byte_order_of_their_paths(tmp_path: Path) -> None:
    names = [b"a", b"a-b", b"a.d/x", b"a/b", b"a/b.c/y", b"a0", b"b/\xff", b"b/\xc3\xa4", b"z\ny"]
    make(tmp_path, *(name for name in names if name != b"a"), b"B")
    found, scanned = walk(tmp_path)
    assert found == sorted(found)
    assert set(found) == {*names, b"B"} - {b"a"}
    assert (scanned.tally.files, scanned.tally.directories) == (len(found), 5)


def test_entries_tell_size_times_and_key(tmp_path: Path) -> None:
    make(tmp_path, b"d/file")
    scanned = Walk(os.fsencode(tmp_path), Rules(), clock=lambda: 77)
    [entry] = [entry for chunk in scanned for entry in chunk.entries]
    stat = os.stat(tmp_path / "d/file")
    assert (entry.size, entry.mtime_ns, entry.ctime_ns, entry.seen_ns) == (6, stat.st_mtime_ns, stat.st_ctime_ns, 77)
    assert scanned.tally.size == 6
    before = entry.change_key
    os.utime(tmp_path / "d/file", ns=(1, 1))
    [entry] = [entry for chunk in Walk(os.fsencode(tmp_path), Rules()) for entry in chunk.entries]
    assert entry.change_key != before


def test_symlinks_and_special_files_are_skipped_and_counted(tmp_path: Path) -> None:
    make(tmp_path, b"real/file")
    (tmp_path / "link").symlink_to("real/file")
    (tmp_path / "dirlink").symlink_to("real")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "sock"))
        found, scanned = walk(tmp_path)
    assert found == [b"real/file"]
    assert (scanned.tally.symlinks, scanned.tally.specials) == (4, 2)


def test_rules_prune_directories(tmp_path: Path) -> None:
    make(tmp_path, b"keep/a", b"skip/b", b"keep/c.tmp")
    found, scanned = walk(tmp_path, Rules(["skip/"]))
    assert found == [b"keep/a"]
    assert (scanned.tally.unwanted, scanned.tally.directories) == (2, 2)


def test_chunks_are_bounded(tmp_path: Path) -> None:
    make(tmp_path, *(b"%05d" % number for number in range(2 * CHUNK + 1)))
    sizes = [len(chunk) for chunk in Walk(os.fsencode(tmp_path), Rules())]
    assert sizes == [CHUNK, CHUNK, 1]


def test_a_part_of_the_tree(tmp_path: Path) -> None:
    make(tmp_path, b"a/b/c", b"a/b2", b"x")
    assert walk(tmp_path, start=b"a/b")[0] == [b"a/b/c"]
    assert walk(tmp_path, start=b"gone")[0] == []


def test_a_missing_root_is_an_error_and_an_empty_one_is_not(tmp_path: Path) -> None:
    with pytest.raises(RootMissing):
        walk(tmp_path / "none")
    make(tmp_path, b"file")
    with pytest.raises(RootMissing):
        identify(os.fsencode(tmp_path / "file"))
    (tmp_path / "empty").mkdir()
    assert walk(tmp_path / "empty")[0] == []


def test_what_vanishes_during_the_scan_is_no_error(tmp_path: Path) -> None:
    make(tmp_path, *(b"a%05d" % number for number in range(CHUNK)), b"b/x", b"c")
    chunks = iter(Walk(os.fsencode(tmp_path), Rules()))
    assert len(next(chunks)) == CHUNK
    os.unlink(tmp_path / "b/x")
    os.rmdir(tmp_path / "b")
    os.unlink(tmp_path / "c")
    assert list(chunks) == []


@pytest.mark.skipif(ROOT, reason="root may read everything: run the tests as another user")
def test_an_unreadable_directory_is_told_and_the_rest_is_scanned(tmp_path: Path) -> None:
    make(tmp_path, b"locked/a", b"open/b")
    os.chmod(tmp_path / "locked", 0)
    try:
        scanned = Walk(os.fsencode(tmp_path), Rules())
        chunks = list(scanned)
    finally:
        os.chmod(tmp_path / "locked", 0o700)
    assert [blocked for chunk in chunks for blocked in chunk.blocked] == [
        Blocked(path=b"locked", why="Permission denied")
    ]
    assert [entry.path for chunk in chunks for entry in chunk.entries] == [b"open/b"]


def test_a_path_too_long_to_look_at_is_told(tmp_path: Path) -> None:
    """Made through relative steps, as programs do that change their directory."""
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=fd)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    make(tmp_path, b"z")
    scanned = Walk(os.fsencode(tmp_path), Rules())
    chunks = list(scanned)
    assert scanned.tally.blocked == 1
    assert [blocked.why for chunk in chunks for blocked in chunk.blocked] == ["File name too long"]
    assert [entry.path for chunk in chunks for entry in chunk.entries] == [b"z"]


def test_look_sorts_out_single_paths(tmp_path: Path) -> None:
    make(tmp_path, b"a", b"d/e", b"t.tmp", b"skip/x")
    (tmp_path / "link").symlink_to("d")
    looked = look(
        os.fsencode(tmp_path), Rules(["skip/"]), [b"a", b"d", b"gone", b"t.tmp", b"skip", b"skip/x", b"link", b"link/e"]
    )
    assert [entry.path for entry in looked.chunk.entries] == [b"a"]
    assert looked.directories == [b"d"]
    # What is reached through a symlink is not in the tree, whatever events say.
    assert looked.gone == [b"gone", b"link", b"link/e"]


def test_a_path_of_more_directories_than_python_nests_calls(tmp_path: Path) -> None:
    make(tmp_path, b"z")
    depth = sys.getrecursionlimit() + 100
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    path = b"d/" * depth + b"file"
    try:
        assert walk(tmp_path)[0] == [path, b"z"]
        assert [entry.path for entry in look(os.fsencode(tmp_path), Rules(), [path]).chunk.entries] == [path]
    finally:
        # Whoever tidies up after the tests does nest calls.
        os.unlink(tmp_path / os.fsdecode(path))
        os.removedirs(tmp_path / ("d/" * depth))


def test_lost(tmp_path: Path) -> None:
    make(tmp_path, b"a", b"b.log", b"d/e")
    known = [b"a", b"b.log", b"c", b"d"]
    assert lost(os.fsencode(tmp_path), Rules(["*.log"]), known) == [b"b.log", b"c", b"d"]


def test_paths_are_shown_unambiguously() -> None:
    assert shown(b"a\xff b\n") == "a\\xff b\\x0a"
    assert shown("grün".encode()) == "grün"
