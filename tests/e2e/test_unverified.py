"""A store that enforces nothing is refused, unless `integrity.mode` is `Unverified`; then plain uploads work."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import putgate
from tests.servers.api import ApiProcess
from tests.servers.s3 import S3Server

PART = 8 * 1024 * 1024

pytestmark = pytest.mark.slow


@pytest.fixture(name="unchecked")
def an_api_before_moto(tmp_path: Path, moto: S3Server, prefix: str) -> Iterator[ApiProcess]:
    """Not started yet."""
    process = ApiProcess(tmp_path / "api", moto, prefix=prefix)
    yield process
    process.kill()


def ended(api: ApiProcess) -> tuple[int, str]:
    api.start(wait=False)
    assert api.process is not None
    try:
        return api.process.wait(120), api.log.read_text()
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it serves all the same:\n{api.log.read_text()[-2000:]}") from None


def probe_says(api: ApiProcess) -> tuple[int, str]:
    """Exit code and tier of `putgate-api probe` with the settings of an API that was started once."""
    done = subprocess.run(
        [sys.executable, "-m", "putgate_api.cli", "probe", "--config", str(api.folder / "api.yaml"), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)["tier"]


def report_of(api: ApiProcess) -> dict[str, Any]:
    with urllib.request.urlopen(f"{api.admin_url}/report", timeout=10) as answer:
        report: dict[str, Any] = json.load(answer)
    return report


@pytest.mark.parametrize("settings", [{}, {"integrity": {"mode": "Enforced"}}])
def test_it_is_refused(unchecked: ApiProcess, settings: dict[str, Any]) -> None:
    unchecked.settings |= settings
    code, said = ended(unchecked)
    assert code == 3
    assert "enforces neither SHA-256 nor MD5" in said
    assert "part_length" in said
    assert probe_says(unchecked) == (3, "none")


async def test_unverified_serves_plain_uploads_and_says_so(unchecked: ApiProcess, tmp_path: Path) -> None:
    unchecked.settings["integrity"] = {"mode": "Unverified"}
    unchecked.start()
    assert probe_says(unchecked) == (0, "none")
    report = report_of(unchecked)
    assert report["state"] == "Ready"
    assert report["integrity"]["tier"] == "none"
    assert "may be other bytes than were declared" in report["integrity"]["findings"][0]
    (integrity,) = [each for each in report["conditions"] if each["type"] == "IntegrityVerified"]
    assert (integrity["status"], integrity["reason"]) == ("Unknown", "Unverified")
    assert not report["capabilities"]["commitByPut"]

    async with putgate.Client(unchecked.url, token=unchecked.token) as client:
        limit = await client._use().wire.part_limit()
        assert limit.put_max_size == 0
        assert limit.instant_min_size > limit.max_object_size
        for size in (0, 1000, PART + 1000):
            data, name = secrets.token_bytes(size), f"file-{size}"
            first = await client.upload(data, name)
            assert first.sent_bytes == size
            await client.download(name, tmp_path / name)
            assert (tmp_path / name).read_bytes() == data
            again = await client.upload(data, f"again-{size}")
            assert again.sent_bytes == size, "no instant upload: nobody vouches for what is stored"
        names = [file.name async for file in client.list()]
        assert sorted(names) == sorted(f"{how}-{size}" for how in ("file", "again") for size in (0, 1000, PART + 1000))
