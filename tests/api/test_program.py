"""`putgate-api` as a program: settings, preparation, exit codes, health, metrics, draining."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
import yaml

from putgate_storage.s3.driver import S3Store
from tests.api.calls import Calls
from tests.api.state import state_of
from tests.servers.api import ApiProcess
from tests.servers.proxy import StoreProxy
from tests.servers.proxy_calls import kind
from tests.servers.proxy_faults import Delay
from tests.servers.seaweedfs import SeaweedFS


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PUTGATE_"))}
    return subprocess.run(
        [sys.executable, "-m", "putgate_api.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=clean | (env or {}),
        check=False,
    )


@pytest.fixture
def config(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> ApiProcess:
    """An API that is configured and not running."""
    return ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix)


def written(api: ApiProcess) -> str:
    path = api.folder / "api.yaml"
    path.write_text(yaml.safe_dump(api.settings))
    return str(path)


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.slow
def test_probe_reports_what_seaweedfs_enforces_and_leaves_nothing(config: ApiProcess) -> None:
    done = run("probe", "--config", written(config), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["tier"] == "sha256"
    assert report["capabilities"]["commit_by_put"] is True
    assert report["capabilities"]["conditional_complete"] is False
    plain = run("probe", "--config", written(config))
    assert "integrity tier   sha256" in plain.stdout
    assert "complete" in plain.stdout


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"storage": {"s3": {"bukket": "x"}}}, "storage.s3.bukket: unknown key"),
        ({"upload": {"part_size": "1Mi"}}, "part_size lies between 5Mi"),
        ({"upload": {"url_ttl": "1h"}}, "url_ttl lies between"),
        ({"storage": {"prefix": "no-slash"}}, "a prefix is empty or ends in '/'"),
        ({"auth": {"token_file": None}}, "auth.token_file is not set"),
        ({"auth": {"token_file": "/nowhere"}}, "/nowhere: No such file"),
        ({"upload_keys": {"file": "/nowhere"}}, "/nowhere: No such file"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    config: ApiProcess, change: dict[str, dict[str, object]], says: str
) -> None:
    for group, values in change.items():
        target = config.settings.setdefault(group, {})
        for key, value in values.items():
            if isinstance(value, dict):
                target[key].update(value)
            else:
                target[key] = value
    done = run("serve", "--config", written(config))
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_overrides_the_file_and_may_not_invent(config: ApiProcess) -> None:
    done = run("probe", "--config", written(config), env={"PUTGATE_API_STORAGE__S3__REGION": "''"})
    assert done.returncode == 2
    assert "storage.s3.region" in done.stderr
    done = run("probe", "--config", written(config), env={"PUTGATE_API_STORRAGE__X": "1"})
    assert (done.returncode, "storrage: unknown key" in done.stderr) == (2, True)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "example.org", "::"])
def test_no_auth_listens_on_loopback_only(config: ApiProcess, host: str) -> None:
    config.settings["listen"]["host"] = host
    done = run("serve", "--config", written(config), "--insecure-no-auth")
    assert (done.returncode, "loopback" in done.stderr) == (2, True)


@pytest.mark.slow
def test_another_part_size_than_the_buckets_refuses_to_serve(config: ApiProcess) -> None:
    config.start()
    assert config.stop() == 0
    config.settings["upload"] = {"part_size": "16Mi"}
    done = run("serve", "--config", written(config))
    assert done.returncode == 3
    assert "part_size is 8388608 in the bucket and 16777216 in the settings" in done.stderr


@pytest.mark.slow
def test_a_missing_bucket_is_waited_for_or_created(config: ApiProcess) -> None:
    config.settings["storage"]["s3"]["bucket"] = "putgate-created"
    config.start(wait=False)
    wait_for(lambda: "there is no bucket putgate-created" in fetch(f"{config.admin_url}/readyz")[1], seconds=30)
    assert fetch(f"{config.admin_url}/readyz")[0] == 503
    assert fetch(f"{config.admin_url}/healthz")[0] == 200
    assert fetch(f"{config.url}/files")[0] == 401
    assert config.stop() == 0
    config.settings["storage"]["management"] = "Create"
    config.start()
    assert config.stop() == 0


def wait_for(condition: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.05)
    raise TimeoutError


async def test_metrics_count_calls_outcomes_and_store_calls(calls: Calls, api: ApiProcess) -> None:
    await calls.upload("x", b"content")
    await calls.upload("x", b"content")
    text = (await asyncio.to_thread(fetch, f"{api.admin_url}/metrics"))[1]
    assert 'putgate_api_initiates_total{outcome="put"} 1.0' in text
    assert 'putgate_api_initiates_total{outcome="exists"} 1.0' in text
    assert 'putgate_api_declared_bytes_total{outcome="put"} 7.0' in text
    assert 'putgate_api_call_seconds_count{call="initiate",code="ok"} 2.0' in text
    assert 'putgate_api_store_call_seconds_count{operation="head",outcome="ok"}' in text
    assert "putgate_api_ready 1.0" in text


@pytest.mark.slow
async def test_draining_answers_what_is_under_way(
    http: aiohttp.ClientSession, tmp_path: Path, seaweedfs: SeaweedFS, prefix: str, store_proxy: StoreProxy
) -> None:
    api = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix, endpoint=store_proxy.url)
    await asyncio.to_thread(api.start)
    calls = Calls(http, api.url, api.token)
    store_proxy.rule(kind("HeadObject"), Delay(seconds=1.5), times=1)
    before = store_proxy.counts["HeadObject"]  # the probe's
    pending = asyncio.create_task(calls.initiate("x", b"content"))
    await asyncio.to_thread(store_proxy.wait_until, lambda proxy: proxy.counts["HeadObject"] > before)
    assert await asyncio.to_thread(api.stop) == 0
    status, answer = await pending
    assert (status, answer["status"]) == (200, "upload")


async def test_neither_tokens_nor_signatures_reach_the_log(calls: Calls, api: ApiProcess, store: S3Store) -> None:
    _, answer = await calls.initiate("secret-name", os.urandom(9_000_000))
    await calls.post("upload_status", {"upload_id": answer["upload_id"]})
    await calls.post("upload_status", {"upload_id": answer["upload_id"][:-4]})
    await calls.file("GET", "absent")
    log = api.log.read_text()
    assert "call" in log
    for secret in (api.token, api.store.secret_key, "X-Amz-Signature", answer["upload_id"][:40]):
        assert secret not in log
    assert (await state_of(store, api.prefix)).uploads != ()


def test_new_token_makes_an_entry_that_works(api: ApiProcess) -> None:
    done = run("new-token", "--subject", "ci", "--verb", "list", "--prefix", "builds/")
    assert done.returncode == 0
    token = done.stderr.strip()
    api.tokens += yaml.safe_load(done.stdout)
    api.write_tokens()
    request = urllib.request.Request(f"{api.url}/files?prefix=builds/", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200
    assert run("new-token", "--subject", "ci", "--prefix", "no-slash").returncode == 2
