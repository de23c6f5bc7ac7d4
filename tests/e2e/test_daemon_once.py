# ruff: noqa: PTH103, PTH118, PTH120, PTH123
"""`putgate-daemon once` with a real API and a real store, counted by proxies."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from putgate_protocol.parts import MIB
from tests.daemon.program import Stack, fill, stack, wait_until
from tests.servers.proxy_calls import Call, kind
from tests.servers.proxy_faults import Delay
from tests.servers.seaweedfs import SeaweedFS


@pytest.fixture
def home(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> Iterator[Stack]:
    with stack(tmp_path, seaweedfs, prefix) as made:
        yield made


@pytest.mark.parametrize(
    ("files", "folders"),
    [
        pytest.param(500, 1, marks=pytest.mark.slow),
        (500, 50),
        pytest.param(5000, 1, marks=pytest.mark.slow),
        pytest.param(5000, 500, marks=pytest.mark.slow),
    ],
)
def test_many_small_files(home: Stack, files: int, folders: int) -> None:
    fill(home.folder, files, folders=folders)
    first = home.once()
    assert first.process.returncode == 0, first.tail()
    home.assert_identical()
    assert len(first.of("uploaded", how="put")) == files
    assert home.to_store.total <= 1.1 * files, home.to_store.counts
    assert home.to_store.put_body_bytes == files * 4096

    home.reset()
    second = home.once()
    assert second.process.returncode == 0
    assert (home.to_api.total, home.to_store.total) == (0, 0)
    assert second.of("scanned")[0]["queued"] == 0

    home.delete_journal()
    third = home.once()
    assert third.process.returncode == 0
    assert len(third.of("uploaded", how="exists")) == files
    [finished] = third.of("finished")
    assert (finished["uploaded"], finished["existed"]) == (0, files)
    assert home.to_store.put_body_bytes == 0
    home.assert_identical()


def test_odd_names_and_sizes(home: Stack) -> None:
    names = [
        b"with space",
        "grün/日本".encode(),
        b"+%#?&\\'\"",
        b"new\nline",
        b"invalid\xff\xfeutf8",
        b"x" * 255,
        b"a/" * 400 + b"deep",
        b".hidden",
        b"empty",
    ]
    for number, name in enumerate(names):
        path = os.path.join(os.fsencode(home.folder), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"" if name == b"empty" else name * (number + 1))
    (home.folder / "two-parts").write_bytes(secrets.token_bytes(8 * MIB + 1))
    (home.folder / "left.tmp").write_bytes(b"unfinished")
    (home.folder / "link").symlink_to("empty")
    daemon = home.once()
    assert daemon.process.returncode == 0, daemon.tail()
    assert home.content("in/two-parts") == (home.folder / "two-parts").read_bytes()
    assert len(home.stored()) == len(names) + 1
    for path in ("link", "left.tmp", "two-parts"):
        (home.folder / path).unlink()
    home.assert_identical(without={"in/two-parts"})
    assert home.stored().keys() >= {"in/new%0Aline", "in/invalid%FF%FEutf8", "in/empty"}


def test_what_cannot_be_stored_is_listed_and_stops_nothing_else(home: Stack) -> None:
    fill(home.folder, 20)
    (home.folder / "sub" / ".putgate").mkdir(parents=True)
    (home.folder / "sub" / ".putgate" / "x").write_text("reserved")
    (home.folder / ".uploads").mkdir()
    (home.folder / ".uploads" / "y").write_text("allowed below a prefix")
    (home.folder / "obj.versions").write_text("the store keeps such names for itself")
    home.settings["folders"].append({"path": str(home.home / "nowhere"), "prefix": "no/"})
    daemon = home.once()
    assert daemon.process.returncode == 1
    text = "\n".join(daemon.text)
    assert f"failed: {home.folder}/sub/.putgate/x:" in text
    assert f"failed: {home.folder}/obj.versions:" in text
    assert "nowhere" in text
    assert {event["code"] for event in daemon.of("failed")} == {"name_reserved"}
    assert len(daemon.of("uploaded")) == 21
    # A later run says it again.
    assert home.once().process.returncode == 1


@pytest.mark.parametrize("left", ["nothing", "an empty directory"])
def test_a_folder_that_goes_before_its_files_are_read_is_a_failure(home: Stack, left: str) -> None:
    home.settings["folders"][0]["settle"] = "0s"
    fill(home.folder, 20)

    def go(_: Call) -> None:
        home.daemons[-1].wait_for("scanned")
        home.folder.rename(home.home / "away")
        if left == "an empty directory":  # as a disk leaves where it was mounted
            home.folder.mkdir()

    home.to_api.on(kind("part_limit"), go, times=1)
    daemon = home.once()
    assert daemon.process.returncode == 1, daemon.tail()
    assert len(daemon.of("vanished")) == 20
    code = "folder_missing" if left == "nothing" else "folder_empty"
    assert [line for line in daemon.text if line.startswith(f"failed: {home.folder}: ") and f"({code})" in line]

    if home.folder.exists():
        home.folder.rmdir()
    (home.home / "away").rename(home.folder)
    assert home.once().process.returncode == 0
    home.assert_identical()


def test_a_file_that_goes_before_it_is_read_is_none(home: Stack) -> None:
    home.settings["folders"][0]["settle"] = "0s"
    fill(home.folder, 2)

    def go(_: Call) -> None:
        home.daemons[-1].wait_for("scanned")
        (home.folder / "d0000" / "f00000").unlink()

    home.to_api.on(kind("part_limit"), go, times=1)
    daemon = home.once()
    assert daemon.process.returncode == 0, daemon.tail()
    assert (len(daemon.of("vanished")), len(daemon.of("uploaded")), len(daemon.of("scanned"))) == (1, 1, 1)
    home.assert_identical()


def test_a_token_without_the_right_fails_its_files_and_a_new_one_heals(home: Stack) -> None:
    fill(home.folder, 3)
    token = home.home / "token"
    right = token.read_text()
    token.write_text(home.api.add_token(prefixes=["other/"]))
    daemon = home.once()
    assert daemon.process.returncode == 1
    assert [event["code"] for event in daemon.of("failed")] == ["forbidden"] * 3
    assert right not in "\n".join(daemon.text)
    token.write_text(right)
    assert home.once().process.returncode == 0
    home.assert_identical()


@pytest.mark.parametrize("files", [400, pytest.param(5000, marks=pytest.mark.slow)])
def test_kill_9_in_the_middle_then_it_goes_on(home: Stack, files: int) -> None:
    fill(home.folder, files)
    daemon = home.daemon("once")
    home.to_store.wait_until(lambda proxy: proxy.counts["PutObject"] > files // 4)
    daemon.kill()
    home.to_store.wait_idle()
    assert len(home.stored()) < files
    again = home.once()
    assert again.process.returncode == 0, again.tail()
    home.assert_identical()
    # At most what was under way is sent twice.
    assert home.to_store.put_body_bytes <= (files + 64) * 4096


@pytest.mark.slow
def test_kill_9_in_a_large_file_then_only_the_rest_is_sent(home: Stack) -> None:
    parts = 12
    (home.folder / "large").write_bytes(secrets.token_bytes(parts * 8 * MIB))
    slow = home.to_store.rule(kind("UploadPart"), Delay(seconds=0.3))
    daemon = home.daemon("once")
    home.to_store.wait_until(lambda proxy: sum(c.done and c.status == 200 for c in proxy.of_kind("UploadPart")) >= 4)
    daemon.kill()
    home.to_store.wait_idle()
    sent = sum(c.status == 200 for c in home.to_store.of_kind("UploadPart"))
    home.to_store.heal()
    assert slow.hits
    home.reset()
    again = home.once()
    assert again.process.returncode == 0, again.tail()
    assert home.content("in/large") == (home.folder / "large").read_bytes()
    assert home.to_store.put_body_bytes <= (parts - sent) * 8 * MIB
    assert home.open_uploads() == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["rewritten", "appended", "truncated", "replaced"])
def test_a_large_file_that_changes_while_it_uploads_is_never_stored_mixed(home: Stack, how: str) -> None:
    path = home.folder / "busy"
    path.write_bytes(secrets.token_bytes(3 * 8 * MIB))
    final = secrets.token_bytes(2 * 8 * MIB)

    def change(_: Call) -> None:
        match how:
            case "appended":
                with path.open("ab") as file:
                    file.write(b"more")
            case "truncated":
                os.truncate(path, 8 * MIB + 5)
            case "rewritten":
                with path.open("r+b") as file:
                    file.write(b"other bytes at the start")
            case _:
                fresh = home.home / "fresh"
                fresh.write_bytes(final)
                fresh.rename(path)

    home.to_store.on(kind("UploadPart"), change, times=1)
    seen: list[bytes | None] = []
    home.to_store.on(kind("CompleteMultipartUpload"), lambda _: seen.append(home.content("in/busy")), when="after")
    daemon = home.once()
    assert daemon.process.returncode == 0, daemon.tail()
    assert home.content("in/busy") == path.read_bytes()
    # Whatever was ever published was the final content: the first reading was dropped before its complete.
    assert seen == [path.read_bytes()]
    assert daemon.of("failed", code="source_changed")


def test_a_small_file_that_changes_while_it_uploads_is_whole_and_then_new(home: Stack) -> None:
    path = home.folder / "busy"
    path.write_bytes(b"first" * 1000)
    home.to_store.on(kind("PutObject"), lambda _: path.write_bytes(b"second" * 2000), times=1)
    assert home.once().process.returncode == 0
    assert home.content("in/busy") == b"first" * 1000
    assert home.once().process.returncode == 0
    assert home.content("in/busy") == b"second" * 2000


def test_it_waits_for_the_store_and_finishes(home: Stack) -> None:
    fill(home.folder, 400)
    daemon = home.daemon("once")
    home.to_store.wait_until(lambda proxy: proxy.counts["PutObject"] > 50)
    home.to_store.set_down(True)
    daemon.wait_for("stamina.retry_scheduled")
    home.to_store.set_down(False)
    assert daemon.end() == 0, daemon.tail()
    home.assert_identical()


def test_it_waits_for_the_api_and_finishes(home: Stack) -> None:
    fill(home.folder, 50)
    home.api.kill()
    daemon = home.daemon("once")
    daemon.wait_for("stamina.retry_scheduled")
    home.api.start()
    assert daemon.end() == 0, daemon.tail()
    home.assert_identical()


@pytest.mark.slow
def test_the_api_killed_in_the_middle(home: Stack) -> None:
    fill(home.folder, 300, folders=3)
    (home.folder / "large").write_bytes(secrets.token_bytes(20 * MIB))
    home.settings["server"]["url"] = home.api.url  # the process itself goes away, not a proxy's upstream
    home.to_store.rule(kind("PutObject"), Delay(seconds=0.05))
    daemon = home.daemon("once")
    home.to_store.wait_until(lambda proxy: proxy.counts["PutObject"] > 20)
    home.api.restart()
    assert daemon.end() == 0, daemon.tail()
    home.assert_identical()


def test_giving_up_is_a_choice(home: Stack) -> None:
    fill(home.folder, 2)
    home.api.kill()
    daemon = home.once("--give-up-after", "300ms")
    assert daemon.process.returncode == 1
    assert {event["code"] for event in daemon.of("failed")} == {"unreachable"}


def test_a_file_still_being_written_is_waited_for(home: Stack) -> None:
    path = home.folder / "growing"
    path.write_bytes(b"1")
    daemon = home.daemon("once")
    for _ in range(10):
        wait_until(lambda: path.stat().st_mtime_ns + 300_000_000 < time.time_ns())
        with path.open("ab") as file:
            file.write(b"more")
    assert daemon.end() == 0
    assert home.content("in/growing") == path.read_bytes()
    assert len(daemon.of("uploaded")) == 1


def test_interrupted_it_ends_soon(home: Stack) -> None:
    fill(home.folder, 50)
    home.to_store.rule(kind("PutObject"), Delay(seconds=8))
    daemon = home.daemon("once")
    home.to_store.wait_until(lambda proxy: proxy.counts["PutObject"] > 0)
    assert daemon.stop(signal.SIGINT, timeout=5) == 130
