"""How the process ends: the lame duck, the drain, and its last word; and what a closed bucket still answers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import yaml

from putgate_api.last_word import leave
from putgate_api.uploads.batch import batch
from putgate_api.uploads.initiate import initiate
from putgate_api.uploads.sign import sign
from putgate_protocol.messages.sign import SignRequest
from putgate_protocol.problems import Problem
from tests.api.calls import Calls
from tests.api.in_cluster import in_cluster, readyz
from tests.api.memory_bucket import Clock, begin, bucket, caller, finish, memory_store, put_parts, request
from tests.api.waiting import until
from tests.servers.api import ApiProcess
from tests.servers.seaweedfs import SeaweedFS


async def test_a_lame_duck_is_unready_and_still_answers(
    http: aiohttp.ClientSession, tmp_path: Path, seaweedfs: SeaweedFS, prefix: str
) -> None:
    api = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix)
    api.settings["listen"]["lame_duck"] = "3s"
    await asyncio.to_thread(api.start_probed)
    calls = Calls(http, api.url, api.token)
    assert api.process is not None
    begun = time.monotonic()
    api.process.send_signal(signal.SIGTERM)
    await until(lambda: asyncio.to_thread(readyz, api), lambda found: found == (503, "draining\n"))
    # New connections, too: who balances the load does not know yet.
    async with aiohttp.ClientSession() as fresh:
        status, answer = await Calls(fresh, api.url, api.token).initiate("x", b"content")
    assert (status, answer["status"]) == (200, "upload")
    status, _ = await calls.post("part_limit", {})
    assert status == 200
    assert await asyncio.to_thread(api.process.wait, 30) == 0
    assert time.monotonic() - begun >= 3
    api.kill()


def last_word(api: ApiProcess, tmp_path: Path) -> tuple[int, str]:
    """The exit code of a process that cannot serve, and what it left for the kubelet."""
    log, config = tmp_path / "termination-log", tmp_path / "api.yaml"
    log.touch()
    config.write_text(yaml.safe_dump(api.settings))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "putgate_api.cli", "serve", "--config", str(config)),
            *("--termination-log", str(log)),
        ],
        capture_output=True,
        timeout=60,
        check=False,
        env={key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PUTGATE_"))},
    )
    return done.returncode, log.read_text()


def test_the_last_word_says_what_ended_it(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> None:
    api = in_cluster(ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix))
    api.settings |= {"upload": {"part_size": "1Mi"}, "download": {"url_ttl": "24h"}}
    code, said = last_word(api, tmp_path)
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("SettingsInvalid: ")
    assert "part_size lies" in said
    assert "url_ttl lies" in said, "all of it, on one line"
    api.settings |= {"upload": {}, "download": {}}
    api.settings["listen"]["port"] = seaweedfs.port
    code, said = last_word(api, tmp_path)
    assert code == 2
    assert said.startswith("CannotListen: ")


def test_outside_a_cluster_what_is_wrong_with_the_store_is_the_last_word(
    tmp_path: Path, seaweedfs: SeaweedFS, prefix: str
) -> None:
    api = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix)
    (api.folder / "secret-key").unlink()
    code, said = last_word(api, tmp_path)
    assert code == 4
    assert said.startswith("SecretKeyMissing: ")


def test_without_the_kubelets_file_nothing_is_written(tmp_path: Path) -> None:
    leave(tmp_path / "absent", "word")
    assert list(tmp_path.iterdir()) == []
    present = tmp_path / "present"
    present.touch()
    leave(present, "a\nb\t" + "ü" * 5000)
    assert present.read_bytes().startswith("a b ü".encode())
    assert len(present.read_bytes()) <= 4096
    assert present.read_bytes().endswith(b"\n")


async def test_a_closed_bucket_begins_nothing_and_ends_what_has_begun() -> None:
    store = memory_store(Clock())
    served = bucket(store)
    data = b"more than one part" * 3
    opened = await begin(served, "begun", data)
    closed = replace(served, closed="the store lets wrong bytes pass")
    with pytest.raises(Problem) as raised:
        await initiate(closed, caller(), request("new", b"x"))
    assert (raised.value.code, raised.value.status) == ("not_ready", 503)
    assert "wrong bytes" in raised.value.detail
    assert raised.value.retry_after is not None
    (outcome,) = await batch(closed, caller(), [{"initiate": request("new", b"x").model_dump()}])
    assert isinstance(outcome, Problem)
    assert outcome.code == "not_ready"
    with pytest.raises(Problem) as raised:
        await sign(closed, caller(), SignRequest(upload_id=opened.upload_id, part_numbers=[1]))
    assert raised.value.code == "not_ready"
    assert set(await put_parts(store, opened, data)) == {200}
    assert (await finish(closed, opened)).status == "complete"
