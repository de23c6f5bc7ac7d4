"""The rights of a file that a download makes or replaces."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from putgate.download import Sink
from putgate.wire import Stat
from putgate_protocol.messages.base import File
from putgate_protocol.names import Name


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def download(target: Path, before_finish: int | None = None) -> int:
    """Fill `target`, with a look at the rights of what is not yet finished. Returns the rights in the end."""
    sink = Sink(target, Stat(file=File(name="a", size=5), part_size=None))
    try:
        [unfinished] = target.parent.glob(".putgate-*")
        sink.write(b"bytes")
        if before_finish is not None:
            assert stat.S_IMODE(unfinished.stat().st_mode) == before_finish
        sink.finish(Name(b"a"))
    finally:
        sink.close()
    assert target.read_bytes() == b"bytes"
    assert list(target.parent.iterdir()) == [target]
    return stat.S_IMODE(target.lstat().st_mode)


def test_a_new_file_has_those_of_any_new_file(tmp_path: Path) -> None:
    assert download(tmp_path / "a") == 0o640


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o644, 0o664, 0o755])
def test_a_replaced_file_keeps_its_own_from_the_first_byte_on(tmp_path: Path, mode: int) -> None:
    target = tmp_path / "a"
    target.write_text("before")
    target.chmod(mode)
    assert download(target, before_finish=mode) == mode


def test_new_content_does_not_run_as_somebody_else(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("before")
    target.chmod(0o4755)
    assert download(target) == 0o755


def test_a_link_is_replaced_and_what_it_led_to_stays(tmp_path: Path) -> None:
    led_to = tmp_path / "elsewhere"
    led_to.write_text("before")
    led_to.chmod(0o600)
    folder = tmp_path / "folder"
    folder.mkdir()
    target = folder / "a"
    target.symlink_to(led_to)
    assert download(target) == 0o640
    assert not target.is_symlink()
    assert led_to.read_text() == "before"
