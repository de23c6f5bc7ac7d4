"""What a download leaves on the disk: the rights of the file, what serves the next try, and nothing else."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from putgate.download.digests import PartDigests
from putgate.download.unfinished import FOREIGN_PART, Unfinished
from putgate.errors import NotVerified
from putgate.wire import Stat
from putgate_protocol.digests import FileHash, PartHash
from putgate_protocol.messages.base import File
from putgate_protocol.names import Name
from putgate_protocol.parts import PartPlan

NAME = Name(b"a")
PART = 10
DATA = bytes(range(95))
PLAN = PartPlan(size=len(DATA), part_size=PART)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def described(data: bytes = DATA, version: str = "v1") -> Stat:
    plan = PartPlan(size=len(data), part_size=PART)
    hashes = [PartHash.of(data[part.offset :][: part.length]) for part in plan]
    return Stat(
        file=File(name="a", size=len(data), version=version, file_hash=str(FileHash.of(hashes))), part_size=PART
    )


def begin(target: Path, about: Stat | None = None) -> Unfinished:
    """As the downloader begins: what an earlier try has left is looked at."""
    unfinished = Unfinished(target, NAME, about or described())
    for number in unfinished.claimed:
        unfinished.recheck(number)
    return unfinished


def fill(unfinished: Unfinished, *numbers: int, data: bytes = DATA) -> None:
    """Let these parts, or all that are missing, arrive."""
    for run in unfinished.runs():
        while run.position < run.end:
            part = unfinished.plan.part(run.position // unfinished.plan.part_size + 1)
            if numbers and part.number not in numbers:
                break
            run.write(data[part.offset :][: part.length])


def missing(unfinished: Unfinished) -> list[tuple[int, int]]:
    return [(run.position, run.end) for run in unfinished.runs()]


def rights(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def replaced(target: Path, unfinished_rights: int | None = None) -> int:
    """Fill `target`, with a look at the rights of what is not yet finished. Returns the rights in the end."""
    unfinished = begin(target)
    [part] = target.parent.glob(".putgate-*.part")
    fill(unfinished)
    if unfinished_rights is not None:
        assert rights(part) == unfinished_rights
    unfinished.finish()
    unfinished.close()
    assert target.read_bytes() == DATA
    assert list(target.parent.iterdir()) == [target]
    return rights(target)


def test_a_new_file_has_those_of_any_new_file(tmp_path: Path) -> None:
    assert replaced(tmp_path / "a") == 0o640


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o644, 0o664, 0o755])
def test_a_replaced_file_keeps_its_own_from_the_first_byte_on(tmp_path: Path, mode: int) -> None:
    target = tmp_path / "a"
    target.write_text("before")
    target.chmod(mode)
    # Beside them its owner may write, who is about to.
    assert replaced(target, unfinished_rights=mode | 0o200) == mode


def test_new_content_does_not_run_as_somebody_else(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("before")
    target.chmod(0o4755)
    assert replaced(target) == 0o755


def test_a_link_is_replaced_and_what_it_led_to_stays(tmp_path: Path) -> None:
    led_to = tmp_path / "elsewhere"
    led_to.write_text("before")
    led_to.chmod(0o600)
    folder = tmp_path / "folder"
    folder.mkdir()
    target = folder / "a"
    target.symlink_to(led_to)
    assert replaced(target) == 0o640
    assert not target.is_symlink()
    assert led_to.read_text() == "before"


IN_THE_WAY = {
    "a folder": errno.EISDIR,
    "a pipe": errno.EEXIST,
    "a socket": errno.EEXIST,
    "a link to a device": errno.EEXIST,
    "a link to a pipe": errno.EEXIST,
    "a link to an open file": errno.EEXIST,
}


@contextlib.contextmanager
def in_the_way(target: Path, what: str) -> Iterator[None]:
    """Put it there; it must be there in the end."""
    with contextlib.ExitStack() as until_then:
        match what:
            case "a folder":
                target.mkdir()
            case "a pipe":
                os.mkfifo(target)
            case "a socket":
                until_then.enter_context(socket.socket(socket.AF_UNIX)).bind(str(target))
            case "a link to a device":
                target.symlink_to("/dev/null")
            case "a link to a pipe":
                read, write = os.pipe()
                until_then.callback(os.close, read)
                until_then.callback(os.close, write)
                target.symlink_to(f"/dev/fd/{write}")
            case _:
                # As /dev/stdout is one when a shell has redirected it.
                file = until_then.enter_context((target.parent.parent / "open").open("w"))
                target.symlink_to(f"/proc/self/fd/{file.fileno()}")
        before = target.lstat()
        yield
        assert os.path.samestat(before, target.lstat())


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_what_is_no_file_is_not_replaced(tmp_path: Path, what: str) -> None:
    target = tmp_path / "folder" / "a"
    target.parent.mkdir()
    with in_the_way(target, what):
        with pytest.raises(OSError, match=re.escape(str(target))) as refused:
            begin(target)
        assert (refused.value.errno, refused.value.filename) == (IN_THE_WAY[what], str(target))
        assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_what_came_in_the_way_meanwhile_is_not_replaced_either(tmp_path: Path, what: str) -> None:
    target = tmp_path / "folder" / "a"
    target.parent.mkdir()
    first = begin(target)
    fill(first)
    with in_the_way(target, what):
        with pytest.raises(OSError, match=re.escape(str(target))) as refused:
            first.finish()
        assert (refused.value.errno, refused.value.filename) == (IN_THE_WAY[what], str(target))
        first.close()
    target.rmdir() if target.is_dir() else target.unlink()
    second = begin(target)
    assert missing(second) == []
    second.finish()
    second.close()
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("leads_to", ["nothing", "itself", "a folder"])
def test_any_other_link_is_replaced(tmp_path: Path, leads_to: str) -> None:
    target = tmp_path / "folder" / "a"
    target.parent.mkdir()
    target.symlink_to({"nothing": tmp_path / "absent", "itself": target, "a folder": tmp_path}[leads_to])
    assert replaced(target) == 0o640
    assert not target.is_symlink()


def test_the_next_try_goes_on_with_the_parts_that_are_there(tmp_path: Path) -> None:
    first = begin(tmp_path / "a")
    fill(first, 1, 2, 3)
    first.close()
    assert not (tmp_path / "a").exists()
    second = begin(tmp_path / "a")
    assert missing(second) == [(30, 95)]
    fill(second, data=bytes(30) + DATA[30:])
    second.finish()
    second.close()
    assert (tmp_path / "a").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_try_that_brought_nothing_leaves_nothing(tmp_path: Path) -> None:
    unfinished = begin(tmp_path / "a")
    unfinished.runs()[0].write(DATA[: PART - 1])
    unfinished.close()
    assert list(tmp_path.iterdir()) == []


def test_a_part_whose_bytes_are_not_what_they_were_is_fetched_again(tmp_path: Path) -> None:
    first = begin(tmp_path / "a")
    fill(first)
    first.close()
    [part] = tmp_path.glob("*.part")
    with part.open("r+b") as file:
        file.seek(45)
        file.write(b"?")
        file.truncate(91)
    second = begin(tmp_path / "a")
    assert missing(second) == [(40, 50), (90, 95)]
    second.close()


@pytest.mark.parametrize("tail", [b"", b"4", b"4 abc", b"4 " + b"0" * 64, b"\xff\n", b"99 " + b"0" * 64 + b"\n"])
def test_a_line_that_was_cut_off_is_no_line(tmp_path: Path, tail: bytes) -> None:
    first = begin(tmp_path / "a")
    fill(first, 1, 2, 3)
    first.close()
    [state] = tmp_path.glob("*.parts")
    with state.open("ab") as file:
        file.write(tail)
    second = begin(tmp_path / "a")
    assert missing(second) == [(30, 95)]
    fill(second)
    second.finish()
    second.close()


@pytest.mark.parametrize(
    "about",
    [
        described(version="v2"),
        described(DATA[:94]),
        described(DATA[::-1]),
        Stat(file=File(name="a", size=len(DATA)), part_size=PART),
    ],
)
def test_what_was_left_of_another_version_is_not_used(tmp_path: Path, about: Stat) -> None:
    first = begin(tmp_path / "a")
    fill(first, 1, 2, 3)
    first.close()
    second = begin(tmp_path / "a", about)
    assert second.claimed == []
    assert missing(second) == [(0, about.file.size)]
    second.close()


def test_a_damaged_state_costs_time_and_nothing_else(tmp_path: Path) -> None:
    first = begin(tmp_path / "a")
    fill(first, 1)
    first.close()
    [state] = tmp_path.glob("*.parts")
    for damage in (b"", b"\0" * 100, json.dumps([1]).encode()):
        state.write_bytes(damage)
        again = begin(tmp_path / "a")
        assert missing(again) == [(0, 95)]
        fill(again, 1)
        again.close()


def test_wrong_bytes_are_no_file_and_are_not_kept(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("before")
    unfinished = begin(target)
    fill(unfinished, data=DATA[::-1])
    with pytest.raises(NotVerified):
        unfinished.finish()
    unfinished.close()
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_part_is_no_file(tmp_path: Path) -> None:
    unfinished = begin(tmp_path / "a")
    fill(unfinished, 1, 2)
    with pytest.raises(NotVerified, match="2 parts arrived of 10"):
        unfinished.finish()
    unfinished.close()


def test_two_downloads_into_one_file_do_not_meet(tmp_path: Path) -> None:
    one, other = begin(tmp_path / "a"), begin(tmp_path / "a")
    assert len(list(tmp_path.glob("*.part"))) == 2
    fill(one)
    fill(other)
    for each in (one, other):
        each.finish()
        each.close()
        assert (tmp_path / "a").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_download_that_is_done_leaves_the_next_one_its_place(tmp_path: Path) -> None:
    target = tmp_path / "a"
    first = begin(target)
    fill(first)
    first.finish()
    assert list(tmp_path.iterdir()) == [target]
    second = begin(target, described(DATA[::-1]))
    fill(second, 1, 2, data=DATA[::-1])
    first.close()
    third = begin(target, described(DATA[::-1]))
    fill(third, 1, data=DATA[::-1])
    fill(second, data=DATA[::-1])
    second.finish()
    second.close()
    assert target.read_bytes() == DATA[::-1]
    fill(third, data=DATA[::-1])
    third.finish()
    third.close()
    assert target.read_bytes() == DATA[::-1]
    assert list(tmp_path.iterdir()) == [target]


def test_a_download_that_is_done_leaves_the_next_one_what_a_try_after_it_needs(tmp_path: Path) -> None:
    first = begin(tmp_path / "a")
    fill(first)
    first.finish()
    second = begin(tmp_path / "a")
    fill(second, 1, 2, 3)
    first.close()
    second.close()
    third = begin(tmp_path / "a")
    assert missing(third) == [(30, 95)]
    third.give_up()
    third.close()
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_what_no_other_try_would_find_is_not_kept(tmp_path: Path) -> None:
    first, second = begin(tmp_path / "a"), begin(tmp_path / "a")
    fill(second, 1, 2)
    assert len(list(tmp_path.glob("*.part"))) == 2
    second.close()
    fill(first, 1)
    first.close()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".part", ".parts"]
    third = begin(tmp_path / "a")
    assert third.claimed == [1]
    third.give_up()
    third.close()


@pytest.mark.parametrize("other", [None, b"of somebody else"])
def test_what_lies_where_its_own_was_is_never_taken_for_it(tmp_path: Path, other: bytes | None) -> None:
    target = tmp_path / "a"
    target.write_text("before")
    unfinished = begin(target)
    fill(unfinished)
    [part] = tmp_path.glob("*.part")
    part.unlink()
    if other is not None:
        part.write_bytes(other)
    with pytest.raises(OSError, match="removed or replaced") as failed:
        unfinished.finish()
    assert (failed.value.errno, failed.value.filename) == (errno.ESTALE, str(part))
    unfinished.give_up()
    unfinished.close()
    assert target.read_text() == "before"
    assert (part.read_bytes() if part.exists() else None) == other


@pytest.mark.parametrize("left", ["a link", "a hard link", "a folder"])
def test_what_somebody_put_in_the_way_is_left_alone(tmp_path: Path, left: str) -> None:
    (tmp_path / "try").mkdir()
    unfinished = begin(tmp_path / "try" / "a")
    [expected] = (tmp_path / "try").glob("*.part")
    unfinished.close()
    precious = tmp_path / "precious"
    precious.write_text("not ours")
    match left:
        case "a link":
            expected.symlink_to(precious)
        case "a hard link":
            expected.hardlink_to(precious)
        case _:
            expected.mkdir()
    unfinished = begin(tmp_path / "try" / "a")
    fill(unfinished)
    unfinished.finish()
    unfinished.close()
    assert (tmp_path / "try" / "a").read_bytes() == DATA
    assert precious.read_text() == "not ours"


def test_a_write_after_the_end_touches_nothing(tmp_path: Path) -> None:
    """A thread that is still at work when its download is cancelled."""
    unfinished = begin(tmp_path / "a")
    run = unfinished.runs()[0]
    unfinished.close()
    with pytest.raises(ValueError, match="has ended"):
        run.write(DATA[:PART])


def test_runs_are_neighbours_and_not_too_long(tmp_path: Path) -> None:
    size = 20 * FOREIGN_PART + 1
    unfinished = Unfinished(tmp_path / "a", NAME, Stat(file=File(name="a", size=size, version="v"), part_size=None))
    runs = missing(unfinished)
    assert runs[0] == (0, 4 * FOREIGN_PART)
    assert runs[-1] == (20 * FOREIGN_PART, size)
    assert [end for _, end in runs[:-1]] == [start for start, _ in runs[1:]]
    unfinished.close()


@pytest.mark.parametrize("step", [1, 7, 10, 11, 95])
def test_part_hashes_do_not_depend_on_the_pieces(step: int) -> None:
    digests = PartDigests(PLAN)
    found = dict(pair for at in range(0, len(DATA), step) for pair in digests.update(memoryview(DATA[at : at + step])))
    assert found == {part.number: PartHash.of(DATA[part.offset :][: part.length]) for part in PLAN}
    assert digests.position == len(DATA)
