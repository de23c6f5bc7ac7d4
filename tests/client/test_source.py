"""A source notices every change of what it reads."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from putgate.errors import SourceChanged
from putgate.upload.source import BytesSource, FileSource, change_key


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"OTHER")


def _overwrite_and_set_mtime_back(path: Path) -> None:
    before = path.stat()
    _overwrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace_with_equal(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def _replace_with_link(path: Path) -> None:
    other = path.with_name("other")
    path.rename(other)
    path.symlink_to(other)


CHANGES = [
    _grow,
    _overwrite,
    _overwrite_and_set_mtime_back,
    _replace_with_equal,
    _replace_with_link,
    Path.unlink,
    lambda path: os.truncate(path, 1),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_during_reading_is_noticed(change: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first content")
    reading = FileSource(path).open()
    assert reading.pread(5, 0) == b"first"
    reading.check()
    change(path)
    with pytest.raises(SourceChanged):
        reading.check()
    reading.close()


def test_an_overwrite_right_after_the_last_write_has_a_time_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for _ in range(20):
        path.write_bytes(b"first content")
        reading = FileSource(path).open()
        _overwrite(path)
        with pytest.raises(SourceChanged):
            reading.check()
        reading.close()


def test_reading_alone_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    reading = FileSource(path).open()
    assert reading.change_key == change_key(path.stat())
    assert path.read_bytes() == reading.pread(7, 0)
    reading.check()
    reading.close()


def test_what_was_written_long_ago_is_not_racy(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    reading = FileSource(path).open()
    assert reading.racy
    reading.close()
    assert not FileSource("/bin/sh", follow_symlinks=True).open().racy


def test_links_are_followed_only_when_asked(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"content")
    link.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        FileSource(link).open()
    reading = FileSource(link, follow_symlinks=True).open()
    assert reading.pread(7, 0) == b"content"
    reading.check()
    reading.close()


def test_only_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(IsADirectoryError):
        FileSource(tmp_path).open()
    with pytest.raises(OSError, match="Not a regular file"):
        FileSource(tmp_path / "fifo").open()
    with pytest.raises(FileNotFoundError):
        FileSource(tmp_path / "absent").open()


def test_a_thread_that_still_reads_keeps_the_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    reading = FileSource(path).open()
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with reading._held():
            inside.set()
            assert leave.wait(10)
            os.fstat(reading._descriptor)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)
    reading.close()
    os.fstat(reading._descriptor)
    leave.set()
    thread.join()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading._descriptor)
    with pytest.raises(ValueError, match="after it was closed"):
        reading.pread(1, 0)


def test_bytes_never_show_themselves() -> None:
    assert "secret" not in repr(BytesSource(b"secret"))


def test_no_link_below_the_root_is_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "folder" / "deeper").mkdir(parents=True)
    (root / "folder" / "deeper" / "file").write_bytes(b"own")
    (tmp_path / "elsewhere" / "deeper").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deeper" / "file").write_bytes(b"secret of another")
    source = FileSource(os.fsencode(root / "folder" / "deeper" / "file"), root=os.fsencode(root) + b"/")
    with contextlib.closing(source.open()) as reading:
        assert reading.pread(3, 0) == b"own"
    (root / "folder").rename(root / "was")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotADirectoryError):
        source.open()
