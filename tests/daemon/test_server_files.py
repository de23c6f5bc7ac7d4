"""The daemon's token and CA files: used for the API and the store, read again, and named when they cannot be read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.daemon.program import Daemon, wait_until
from tests.servers.api import ApiProcess
from tests.servers.certificates import Authority
from tests.servers.seaweedfs import SeaweedFS
from tests.servers.tls_front import TlsFront


class World:
    """An API and a store with certificates of a CA that only `ca_file` knows, and a folder to keep uploaded."""

    def __init__(self, home: Path, api: ApiProcess, ca_file: Path) -> None:
        self.home, self.api = home, api
        self.folder, self.token = home / "in", home / "token"
        self.folder.mkdir()
        self.token.write_text(api.token)
        self.settings: dict[str, Any] = {
            "server": {"url": api.url, "token_file": str(self.token), "ca_file": str(ca_file)},
            "folders": [{"path": str(self.folder), "prefix": "in/", "settle": "0s", "rescan": "2s"}],
            "journal": str(home / "journal.db"),
        }

    def start(self, command: str, *arguments: str) -> Daemon:
        config = self.home / "daemon.yaml"
        config.write_text(yaml.safe_dump(self.settings))
        return Daemon(command, config, *arguments)

    def stored(self) -> set[str]:
        client: Any = self.api.store.client()
        try:
            listed = client.list_objects_v2(Bucket=self.api.store.bucket, Prefix=self.api.prefix + "in/")
            return {item["Key"].removeprefix(self.api.prefix) for item in listed.get("Contents", ())}
        finally:
            client.close()


@pytest.fixture(name="world")
def a_world(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> Iterator[World]:
    authority = Authority()
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    for name, content in zip(("tls.crt", "tls.key"), authority.issue(), strict=True):
        (tmp_path / name).write_bytes(content)
    with TlsFront(seaweedfs.endpoint, authority, tmp_path / "front") as store:
        api = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix, endpoint=store.url)
        api.settings["storage"]["s3"]["ca_bundle"] = str(tmp_path / "ca.crt")
        api.settings["listen"]["tls"] = {
            "cert_file": str(tmp_path / "tls.crt"),
            "key_file": str(tmp_path / "tls.key"),
        }
        api.url = f"https://localhost:{api.port}"
        api.start()
        try:
            yield World(tmp_path, api, tmp_path / "ca.crt")
        finally:
            api.kill()


@pytest.mark.slow
def test_a_private_ca_and_a_token_that_is_rotated(world: World) -> None:
    (world.folder / "first").write_bytes(os.urandom(9 * 1024 * 1024))
    daemon = world.start("run")
    try:
        wait_until(lambda: world.stored() == {"in/first"}, explain=daemon.tail)
        world.api.tokens.clear()
        fresh = world.token.with_suffix(".new")
        fresh.write_text(world.api.add_token() + "\n")
        fresh.replace(world.token)
        (world.folder / "second").write_text("content")
        wait_until(lambda: "in/second" in world.stored(), explain=daemon.tail)
        assert daemon.of("failed") == []
        assert daemon.stop() == 0
    finally:
        if daemon.process.poll() is None:
            daemon.kill()


def test_without_the_ca_nothing_is_uploaded(world: World) -> None:
    del world.settings["server"]["ca_file"]
    (world.folder / "first").write_text("content")
    daemon = world.start("once", "--give-up-after", "0s")
    assert daemon.end() == 1
    assert "no certificate that is trusted here" in daemon.tail()
    assert world.stored() == set()


@pytest.mark.parametrize("content", [None, "", "nonsense"])
def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_text(content)
    config = tmp_path / "daemon.yaml"
    folder = {"path": str(tmp_path / "in")}
    server = {"url": "https://localhost:1"}
    config.write_text(yaml.safe_dump({"server": server, "folders": [folder], "journal": str(tmp_path / "j.db")}))
    done = subprocess.run(
        [sys.executable, "-m", "putgate_daemon", "once", "--config", str(config)],
        env={**os.environ, "PUTGATE_DAEMON_SERVER__CA_FILE": str(path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert ("No such file" if content is None else "holds no certificates in PEM") in done.stderr
    assert "Traceback" not in done.stderr
