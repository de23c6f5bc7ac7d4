"""`putgate-daemon run` with a real API and a real store: what appears in a folder appears in the bucket."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.program import Daemon, Stack, fill, stack, wait_until
from tests.servers.proxy_calls import kind
from tests.servers.seaweedfs import SeaweedFS


@pytest.fixture
def home(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> Iterator[Stack]:
    with stack(tmp_path, seaweedfs, prefix) as made:
        made.settings["folders"][0]["settle"] = "200ms"
        made.settings["health"] = {"port": 0}
        yield made


def live(home: Stack) -> Daemon:
    daemon = home.daemon("run")
    daemon.wait_for("scanned")
    return daemon


def test_what_appears_in_the_folder_appears_in_the_bucket(home: Stack) -> None:
    (home.folder / "before").write_bytes(b"there before the daemon")
    daemon = live(home)
    home.wait_content("in/before", b"there before the daemon")

    (home.folder / "copied").write_bytes(b"copied in")
    home.wait_content("in/copied", b"copied in")

    (home.folder / "copied").write_bytes(b"and changed")
    home.wait_content("in/copied", b"and changed")

    made = home.home / "elsewhere"
    made.write_bytes(b"moved into place")
    made.rename(home.folder / "moved")
    home.wait_content("in/moved", b"moved into place")

    (home.folder / "report.txt.part").write_bytes(b"not yet")
    (home.folder / "report.txt.part").rename(home.folder / "report.txt")
    home.wait_content("in/report.txt", b"not yet")

    fill(home.folder / "new" / "tree", 60, folders=20, size=100)
    moved = home.home / "moved-tree"
    fill(moved, 30, folders=3, size=100)
    moved.rename(home.folder / "moved-tree")
    daemon.wait_for("uploaded", 5 + 60 + 30)
    home.assert_identical()

    # Nothing here needed a second scan of the whole folder, and deleting is not propagated.
    assert len(daemon.of("scanned")) == 1
    (home.folder / "before").unlink()
    (home.folder / "last").write_bytes(b"last")
    home.wait_content("in/last", b"last")
    assert home.content("in/before") == b"there before the daemon"
    assert daemon.stop() == 0
    line = daemon.of("uploaded", name="in/copied")[0]
    assert (line["size"], line["how"]) == (9, "put")
    assert daemon.of("stopped")


def test_a_name_that_is_not_utf8_is_uploaded_though_it_ends_the_watcher(home: Stack) -> None:
    # Before the start, so that it is surely watched when the odd name comes.
    (home.folder / "sub").mkdir()
    daemon = live(home)
    with open(os.fsencode(home.folder) + b"/sub/bad\xff", "wb") as file:  # noqa: PTH123
        file.write(b"odd name")
    home.wait_content("in/sub/bad%FF", b"odd name")
    daemon.wait_for("watch_failed", 1)
    (home.folder / "after").write_bytes(b"still alive")
    home.wait_content("in/after", b"still alive")
    assert daemon.stop() == 0


def test_after_a_restart_unchanged_files_cost_nothing(home: Stack) -> None:
    home.settings["folders"][0]["settle"] = "2s"
    fill(home.folder, 30)
    daemon = live(home)
    daemon.wait_for("uploaded", 30)
    assert daemon.stop(signal.SIGINT) == 0
    home.reset()
    (home.folder / "d0000" / "new").write_bytes(b"made while nobody watched")
    daemon = live(home)
    [line] = daemon.wait_for("uploaded")
    assert line["name"] == "in/d0000/new"
    assert daemon.of("scanned")[0]["files"] == 31
    assert home.to_store.counts["PutObject"] == 1
    assert home.to_api.counts["batch"] == 1
    assert daemon.stop() == 0


@pytest.mark.slow
def test_kill_9_while_it_runs(home: Stack) -> None:
    daemon = live(home)
    fill(home.folder, 300)
    home.to_store.wait_until(lambda proxy: proxy.counts["PutObject"] > 50)
    daemon.kill()
    live(home)
    wait_until(lambda: len(home.stored()) == 300, explain=home.daemons[-1].tail)
    home.assert_identical()


@pytest.mark.slow
def test_a_missing_folder_is_told_and_taken_up_when_it_comes(home: Stack) -> None:
    home.folder.rmdir()
    daemon = home.daemon("run")
    daemon.wait_for("folder_missing")
    fresh = home.home / "fresh"
    fill(fresh, 3)
    fresh.rename(home.folder)
    daemon.wait_for("uploaded", 3)
    home.assert_identical()

    # Gone again: nothing is forgotten, nothing is deleted, and its return is noticed.
    home.folder.rename(fresh)
    daemon.wait_for("folder_missing", 2)
    (fresh / "late").write_bytes(b"written while it was away")
    fresh.rename(home.folder)
    # The store has the file before the daemon tells of it.
    home.wait_content("in/late", b"written while it was away")
    daemon.wait_for("uploaded", 4, reason="new")
    assert len(daemon.of("uploaded")) == 4
    assert daemon.stop() == 0


@pytest.mark.slow
def test_an_empty_directory_in_the_place_of_a_full_one_is_no_news(home: Stack) -> None:
    fill(home.folder, 3)
    daemon = live(home)
    daemon.wait_for("uploaded", 3)
    away = home.home / "away"
    home.folder.rename(away)
    home.folder.mkdir()
    daemon.wait_for("folder_empty")
    assert home.journal_files() == 3
    home.folder.rmdir()
    away.rename(home.folder)
    daemon.wait_for("scanned", 3)
    assert home.journal_files() == 3
    assert daemon.stop() == 0


def test_a_failing_file_is_tried_again_and_holds_up_no_other(home: Stack) -> None:
    home.api.tokens[0]["prefixes"] = ["in/allowed/"]
    home.api.write_tokens()
    daemon = live(home)
    (home.folder / "bad").write_bytes(b"refused for now")
    missed = daemon.wait_for("failed", 2)
    assert {(it["path"], it["code"]) for it in missed} == {("bad", "forbidden")}
    assert [it["attempts"] for it in missed[:2]] == [1, 2]
    assert home.journal_failed() == 1
    (home.folder / "allowed").mkdir()
    (home.folder / "allowed" / "good").write_bytes(b"fine")
    home.wait_content("in/allowed/good", b"fine")
    home.api.tokens[0]["prefixes"] = [""]
    home.api.write_tokens()
    home.wait_content("in/bad", b"refused for now")
    wait_until(lambda: home.journal_failed() == 0)
    assert daemon.stop() == 0


def test_a_rotated_token_is_used_without_a_restart(home: Stack) -> None:
    daemon = live(home)
    home.api.tokens.clear()
    fresh = home.api.add_token()
    (home.folder / "file").write_bytes(b"content")
    daemon.wait_for("failed", code="unauthenticated")
    (home.home / "token").write_text(fresh + "\n")
    home.wait_content("in/file", b"content")
    assert fresh not in daemon.tail()
    assert daemon.stop() == 0


def test_the_store_away_and_back(home: Stack) -> None:
    daemon = live(home)
    home.to_store.set_down(True)
    (home.folder / "file").write_bytes(secrets.token_bytes(5000))
    daemon.wait_for("stamina.retry_scheduled")
    home.to_store.set_down(False)
    home.wait_content("in/file", (home.folder / "file").read_bytes())
    assert daemon.stop() == 0


def test_a_file_that_changes_in_the_put_is_stored_again(home: Stack) -> None:
    path = home.folder / "busy"
    home.to_store.on(kind("PutObject"), lambda _: path.write_bytes(b"second" * 2000), times=1)
    daemon = live(home)
    path.write_bytes(b"first" * 1000)
    home.wait_content("in/busy", b"second" * 2000)
    assert daemon.stop() == 0


def test_it_stops_soon_with_much_to_do(home: Stack) -> None:
    fill(home.folder, 500)
    daemon = home.daemon("run")
    home.to_store.wait_until(lambda proxy: proxy.counts["PutObject"] > 10)
    assert daemon.stop(timeout=5) == 0


def test_a_second_daemon_is_refused(home: Stack) -> None:
    daemon = live(home)
    second = home.once()
    assert second.process.returncode == 3
    assert any(f"in use by another daemon (process {daemon.process.pid})" in line for line in second.text)
    assert daemon.stop() == 0


def test_a_damaged_journal_is_set_aside_and_no_bytes_are_sent(home: Stack) -> None:
    fill(home.folder, 20)
    assert home.once().process.returncode == 0
    data = bytearray(home.journal.read_bytes())
    data[100:] = secrets.token_bytes(len(data) - 100)
    home.journal.write_bytes(data)
    home.reset()
    daemon = live(home)
    daemon.wait_for("uploaded", 20, how="exists")
    assert daemon.of("journal_set_aside")
    assert home.to_store.put_body_bytes == 0
    assert daemon.stop() == 0


def test_the_journal_and_the_token_inside_the_folder_are_not_uploaded(home: Stack) -> None:
    home.settings["journal"] = str(home.folder / "state" / "j.db")
    inside = home.folder / "token"
    (home.home / "token").rename(inside)
    home.settings["server"]["token_file"] = str(inside)
    (home.folder / "file").write_bytes(b"1")
    daemon = live(home)
    daemon.wait_for("uploaded")
    (home.folder / "state" / "file").write_bytes(b"2")
    home.wait_content("in/state/file", b"2")
    assert home.stored().keys() == {"in/file", "in/state/file"}
    assert daemon.stop() == 0


def test_a_folder_inside_another_belongs_to_itself(home: Stack) -> None:
    inner = home.folder / "inner"
    fill(inner, 3)
    (home.folder / "outer").write_bytes(b"outer")
    home.settings["folders"].append({"path": str(inner), "prefix": "own/", "settle": "200ms"})
    daemon = home.daemon("run")
    daemon.wait_for("uploaded", 4)
    (inner / "d0000" / "more").write_bytes(b"more")
    home.wait_content("own/d0000/more", b"more")
    assert len([name for name in home.stored() if name.startswith("own/")]) == 4
    assert [name for name in home.stored() if name.startswith("in/")] == ["in/outer"]
    assert daemon.stop() == 0


def test_health_metrics_and_status(home: Stack) -> None:
    fill(home.folder, 3)
    daemon = live(home)
    port = daemon.wait_for("started")[0]["health_port"]
    daemon.wait_for("uploaded", 3)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
        health = json.load(answer)
    assert health["status"] == "ok"
    assert health["folders"][0]["path"] == str(home.folder)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        metrics = answer.read().decode()
    assert 'putgate_daemon_files_uploaded_total{how="put"} 3.0' in metrics
    assert f'putgate_daemon_folder_watched{{folder="{home.folder}"}} 1.0' in metrics
    assert "putgate_daemon_files_found_by_scan_not_by_watch_total" in metrics

    told = json.loads(_status(home, "--json"))
    assert (told["running"], told["process"]) == (True, daemon.process.pid)
    assert (told["folders"][0]["state"], told["folders"][0]["files"]) == ("live", 3)
    assert daemon.stop() == 0
    assert "not running" in _status(home)
    assert "3 files stored" in _status(home)


def test_status_before_the_first_run(home: Stack) -> None:
    assert json.loads(_status(home, "--json"))["folders"][0]["state"] == "new"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("server: {url: 'http://127.0.0.1:1'}\nfolders: [{path: /x, typo: 1}]\njournal: /j", "folders.0.typo"),
        ("- list", "not a mapping"),
        (
            "server: {url: 'http://127.0.0.1:1', token_file: /none}\nfolders: [{path: /x}]\njournal: /tmp/j",
            "token file",
        ),
        ("server: {url: 'http://127.0.0.1:1'}\nfolders: [{path: /x, rules: ['!']}]\njournal: /tmp/j", "rules"),
        ("server: {url: 'http://127.0.0.1:1'}\nfolders: [{path: /tmp}, {path: /tmp/.}]\njournal: /tmp/j", "twice"),
    ],
)
@pytest.mark.parametrize("command", ["run", "once"])
def test_settings_that_cannot_be_used_are_refused(tmp_path: Path, command: str, settings: str, says: str) -> None:
    (tmp_path / "bad.yaml").write_text(settings)
    done = subprocess.run(
        [sys.executable, "-m", "putgate_daemon", command, "--config", str(tmp_path / "bad.yaml")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def _status(home: Stack, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "putgate_daemon", "status", "--config", str(home.config), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
