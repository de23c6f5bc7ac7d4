"""Upload keys in a folder: accepted first, then signing, and what is missing is not yet a forgery."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from putgate_api.key_folder import LOOK_EVERY, KeyFolder
from putgate_api.reloading import Unreadable
from putgate_api.upload_id import Sealer, parse_upload_key
from putgate_protocol.problems import Problem, problem
from tests.api.calls import Calls
from tests.api.waiting import until
from tests.servers.api import ApiProcess
from tests.servers.certificates import swap
from tests.servers.seaweedfs import SeaweedFS

MIB = 1024 * 1024
INVALID = problem("upload_id_invalid", "invalid")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def key() -> bytes:
    return base64.b64encode(secrets.token_bytes(32))


def folder_at(path: Path, clock: Clock, *accepted: str, signing: str = "k1") -> KeyFolder:
    return KeyFolder(path, signing=signing, accepted=accepted or ("k1", "k2"), clock=clock)


def test_loaded_and_missing_keys_are_told_apart(tmp_path: Path) -> None:
    clock = Clock()
    keys = folder_at(tmp_path, clock)
    assert sorted(keys.current().missing) == ["k1", "k2"]
    swap(tmp_path, {"k1": key()})
    assert sorted(keys.current().missing) == ["k1", "k2"]
    clock.now += LOOK_EVERY
    found = keys.current()
    assert (sorted(found.accepted), sorted(found.missing)) == (["k1"], ["k2"])
    assert str(tmp_path / "k2") in found.missing["k2"]
    swap(tmp_path, {"k1": key(), "k2": key(), "k3": key()})
    clock.now += LOOK_EVERY
    assert (sorted(keys.current().accepted), keys.current().missing) == (["k1", "k2"], {})


@pytest.mark.parametrize("text", ["", "!!!", "c2hvcnQ=", base64.b64encode(b"x" * 31).decode(), "é"])
def test_what_is_no_key_is_named_without_being_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"base64|bytes of key") as caught:
        parse_upload_key(text)
    assert not text or text not in str(caught.value)
    swap(tmp_path, {"k1": text.encode()})
    assert "k1" in folder_at(tmp_path, Clock()).current().missing


def test_a_key_may_end_in_a_line_and_secrets_do_not_show(tmp_path: Path) -> None:
    text = key()
    assert parse_upload_key(text.decode() + "\n") == base64.b64decode(text)
    swap(tmp_path, {"k1": text})
    found = folder_at(tmp_path, Clock(), "k1").current()
    assert repr(found.accepted["k1"])[2:-1] not in repr(found)


def test_a_missing_key_cannot_tell_good_from_forged(tmp_path: Path) -> None:
    clock = Clock()
    old, fresh = key(), key()
    swap(tmp_path, {"k1": old, "k2": fresh})
    by_first = Sealer(folder_at(tmp_path, clock).current)
    by_second = Sealer(folder_at(tmp_path, clock, signing="k2").current)
    sealed = by_first.seal("upload", [1])
    later = by_second.seal("upload", [2])
    assert by_second.open("upload", sealed, INVALID) == [1]
    clock.now += LOOK_EVERY
    swap(tmp_path, {"k2": fresh})
    with pytest.raises(Unreadable):
        by_second.open("upload", sealed, INVALID)
    # The others go on; but nothing is signed with a key that is not there.
    assert by_second.open("upload", later, INVALID) == [2]
    with pytest.raises(Unreadable):
        by_first.seal("upload", [1])
    clock.now += LOOK_EVERY
    swap(tmp_path, {"k1": key(), "k2": fresh})
    with pytest.raises(Problem) as caught:
        by_second.open("upload", sealed, INVALID)
    assert caught.value is INVALID
    # A key that nobody accepts any more is unknown for good.
    only = Sealer(folder_at(tmp_path, clock, "k2", signing="k2").current)
    with pytest.raises(Problem):
        only.open("upload", sealed, INVALID)


@pytest.fixture(name="foldered")
def an_api_with_a_key_folder(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> Iterator[ApiProcess]:
    """Configured, not running."""
    api = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix)
    api.settings["upload_keys"] = wanted(tmp_path, "k1", "k1")
    yield api
    api.kill()


def wanted(tmp_path: Path, signing: str, *accepted: str) -> dict[str, Any]:
    return {"folder": str(tmp_path / "keys"), "signing": signing, "accepted": list(accepted)}


async def readyz(http: aiohttp.ClientSession, api: ApiProcess) -> tuple[int, str]:
    async with http.get(f"{api.admin_url}/readyz") as answer:
        return answer.status, await answer.text()


async def loaded(http: aiohttp.ClientSession, api: ApiProcess) -> list[str]:
    async with http.get(f"{api.admin_url}/report") as answer:
        return list((await answer.json())["upload_keys"])


@pytest.mark.slow
async def test_a_rotation_from_begin_to_end(http: aiohttp.ClientSession, foldered: ApiProcess, tmp_path: Path) -> None:
    """Accept everywhere, sign, retire: what was opened before can be finished at each step."""
    first, second = key(), key()
    folder = tmp_path / "keys"
    foldered.start(wait=False)
    # Not ready without its key, and ready when the kubelet has filled it.
    assert (await until(lambda: readyz(http, foldered), lambda answer: "k1" in answer[1]))[0] == 503
    swap(folder, {"k1": first})
    await until(lambda: readyz(http, foldered), lambda answer: answer[0] == 200)
    assert await loaded(http, foldered) == ["k1"]
    calls = Calls(http, foldered.url, foldered.token)
    data = os.urandom(8 * MIB + 1)
    _, opened = await calls.initiate("x", data)

    foldered.settings["upload_keys"] = wanted(tmp_path, "k1", "k1", "k2")
    foldered.kill()
    foldered.start(wait=False)
    assert (await until(lambda: readyz(http, foldered), lambda answer: "k2" in answer[1]))[0] == 503
    swap(folder, {"k1": first, "k2": second})
    await until(lambda: readyz(http, foldered), lambda answer: answer[0] == 200)
    assert await loaded(http, foldered) == ["k1", "k2"]

    foldered.settings["upload_keys"] = wanted(tmp_path, "k2", "k1", "k2")
    await asyncio.to_thread(foldered.restart)
    assert (await calls.post("upload_status", {"upload_id": opened["upload_id"]}))[0] == 200
    _, later = await calls.initiate("y", os.urandom(8 * MIB + 1))

    # A key that goes missing under way: its uploads wait, the others go on, and it shows.
    swap(folder, {"k2": second})
    await until(lambda: loaded(http, foldered), lambda found: found == ["k2"])
    status, answer = await calls.post("upload_status", {"upload_id": opened["upload_id"]})
    assert (status, answer["code"]) == (503, "not_ready")
    assert (await calls.post("upload_status", {"upload_id": later["upload_id"]}))[0] == 200
    assert (await readyz(http, foldered))[0] == 200
    log = foldered.log.read_text()
    assert '"event": "upload key is missing"' in log
    assert first.decode() not in log

    swap(folder, {"k1": first, "k2": second})
    await until(
        lambda: calls.post("upload_status", {"upload_id": opened["upload_id"]}), lambda answer: answer[0] == 200
    )
    assert all(code == 200 for code in await calls.put_parts(opened, data))
    assert (await calls.post("complete_multipart_upload", {"upload_id": opened["upload_id"]}))[0] == 200

    foldered.settings["upload_keys"] = wanted(tmp_path, "k2", "k2")
    await asyncio.to_thread(foldered.restart)
    status, answer = await calls.post("upload_status", {"upload_id": opened["upload_id"]})
    assert (status, answer["code"]) == (400, "upload_id_invalid")
    assert (await calls.post("upload_status", {"upload_id": later["upload_id"]}))[0] == 200
