"""The state files: written whole, read only when they are right, gone when done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from putgate.upload.progress import Known, StateFiles, _load, _save
from putgate_protocol.digests import Md5, PartHash
from putgate_protocol.names import Name

NAME = Name.parse(b"a/b")
KNOWN = Known(change_key="7-1-2-3", part_size=5, part_hashes=(PartHash.of(b"x"), PartHash.of(b"y")), upload_id="id")


def _files(folder: Path, server: str = "http://s", path: bytes = b"/x") -> StateFiles:
    return StateFiles(folder / "state", server, {NAME: path})


async def test_what_is_saved_is_loaded_until_forgotten(tmp_path: Path) -> None:
    files = _files(tmp_path)
    assert await files.load(NAME) is None
    await files.save(NAME, KNOWN)
    assert await files.load(NAME) == KNOWN
    assert files.path(NAME).stat().st_mode & 0o077 == 0
    await files.forget(NAME)
    await files.forget(NAME)
    assert await files.load(NAME) is None
    assert list((tmp_path / "state").iterdir()) == []


async def test_server_name_and_path_keep_states_apart(tmp_path: Path) -> None:
    await _files(tmp_path).save(NAME, KNOWN)
    assert await _files(tmp_path, server="http://t").load(NAME) is None
    assert await _files(tmp_path, path=b"/y").load(NAME) is None
    assert await _files(tmp_path).load(Name.parse(b"a")) is None


@given(
    st.builds(
        Known,
        change_key=st.text(st.characters(exclude_categories=["Cs"])),
        part_size=st.integers(1, 2**50),
        part_hashes=st.lists(st.binary(min_size=32, max_size=32).map(PartHash), max_size=5).map(tuple),
        part_md5s=st.lists(st.binary(min_size=16, max_size=16).map(Md5), max_size=5).map(tuple),
        upload_id=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    )
)
def test_any_state_survives_the_disk(tmp_path_factory: pytest.TempPathFactory, known: Known) -> None:
    path = tmp_path_factory.mktemp("state") / "one.json"
    _save(path, known, {"name": "n", "path": "\udcff"})
    assert _load(path) == known


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"state_version":1}', b"\xff\xfe"])
async def test_a_damaged_state_is_no_state(damage: bytes, tmp_path: Path) -> None:
    files = _files(tmp_path)
    await files.save(NAME, KNOWN)
    files.path(NAME).write_bytes(damage)
    assert await files.load(NAME) is None


async def test_a_state_of_another_version_is_no_state(tmp_path: Path) -> None:
    files = _files(tmp_path)
    await files.save(NAME, KNOWN)
    state = json.loads(files.path(NAME).read_bytes())
    files.path(NAME).write_text(json.dumps(state | {"state_version": 2}))
    assert await files.load(NAME) is None


async def test_a_state_from_before_there_were_md5s_is_one(tmp_path: Path) -> None:
    files = _files(tmp_path)
    await files.save(NAME, KNOWN)
    state = json.loads(files.path(NAME).read_bytes())
    del state["part_md5s"]
    files.path(NAME).write_text(json.dumps(state))
    assert await files.load(NAME) == KNOWN


async def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    await _files(tmp_path).save(NAME, KNOWN)
    assert "cannot keep the state of a/b" in caplog.text
    assert await _files(tmp_path).load(NAME) is None


async def test_a_state_that_cannot_be_removed_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    await StateFiles(tmp_path / "file" / "states", "http://x", {}).forget(Name(b"x"))
    assert "cannot remove the state" in caplog.text
