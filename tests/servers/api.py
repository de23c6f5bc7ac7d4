"""A real `putgate-api` process in front of a store, on free loopback ports."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.ports import free_port
from tests.servers.seaweedfs import SeaweedFS

READY_WITHIN = 180.0

_probes: dict[str, dict[str, Any]] = {}
"""What the first API process of this test run found each store to enforce, by the store's endpoint."""


def token_entry(token: str, **changes: Any) -> dict[str, Any]:
    """An entry of the token file for `token`, which may do everything unless `changes` say less."""
    entry = {
        "subject": "tester",
        "sha256": hashlib.sha256(token.encode()).hexdigest(),
        "verbs": ["upload", "download", "list", "delete"],
        "prefixes": [""],
    }
    return entry | changes


class ApiProcess:
    """`start`, `stop` (drains), `kill` (-9), `restart`: always the same ports, tokens and settings."""

    def __init__(self, folder: Path, store: SeaweedFS, *, prefix: str, endpoint: str | None = None) -> None:
        self.folder = folder
        self.token = secrets.token_urlsafe(16)
        self.port, self.admin_port = free_port(), free_port()
        self.url, self.admin_url = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.admin_port}"
        self.prefix = prefix
        self.store = store
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "api.log"
        self.environment: dict[str, str] = {}
        self.tokens: list[dict[str, Any]] = [token_entry(self.token)]
        self.settings: dict[str, Any] = {
            "storage": {
                "s3": {
                    "provider": "SeaweedFS",
                    "bucket": store.bucket,
                    "region": store.region,
                    "endpoint": endpoint or store.endpoint,
                    "credentials": {
                        "type": "Files",
                        "access_key_id_file": str(folder / "access-key"),
                        "secret_access_key_file": str(folder / "secret-key"),
                    },
                },
                "prefix": prefix,
            },
            "auth": {"token_file": str(folder / "tokens.yaml")},
            "upload_keys": {"file": str(folder / "upload-keys")},
            "listen": {"port": self.port, "admin_port": self.admin_port},
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "access-key").write_text(store.access_key)
        (folder / "secret-key").write_text(store.secret_key)
        (folder / "upload-keys").write_text(f"k1 {base64.b64encode(secrets.token_bytes(32)).decode()}\n")
        self.write_tokens()

    def write_tokens(self) -> None:
        path = self.folder / "tokens.yaml"
        fresh = path.with_suffix(".new")
        fresh.write_text(yaml.safe_dump({"tokens": self.tokens}))
        fresh.replace(path)

    def add_token(self, **changes: Any) -> str:
        """Another token with the given rights; the running process reads it at its next call."""
        token = secrets.token_urlsafe(16)
        self.tokens.append(token_entry(token, **changes))
        self.write_tokens()
        return token

    def start_probed(self) -> ApiProcess:
        """Start with what another process found out about the same store, as replicas do: seconds sooner. For tests
        of what comes after the start.
        """
        client, key = self.store.client(), f"{self.prefix}.putgate/v1/probe.json"
        try:
            if (known := _probes.get(self.store.endpoint)) is not None:
                mine = known | {"with": known["with"] | {"endpoint": self.settings["storage"]["s3"]["endpoint"]}}
                client.put_object(Bucket=self.store.bucket, Key=key, Body=json.dumps(mine).encode())
            self.start()
            if known is None:
                found = client.get_object(Bucket=self.store.bucket, Key=key)["Body"].read()
                _probes[self.store.endpoint] = json.loads(found)
        finally:
            client.close()
        return self

    def start(self, *, wait: bool = True) -> ApiProcess:
        config = self.folder / "api.yaml"
        config.write_text(yaml.safe_dump(self.settings))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "putgate_api.cli", "serve", "--config", str(config)],
                stdout=log,
                stderr=log,
                env=_environment() | self.environment,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"putgate-api ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
            try:
                with urllib.request.urlopen(f"{self.admin_url}/readyz", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.05)
        raise TimeoutError(f"putgate-api is not ready after {READY_WITHIN} s:\n{self.log.read_text()[-4000:]}")

    def stop(self, timeout: float = 30) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        self.process = None
        return code

    def kill(self) -> None:
        # Taken first: a hook may kill from its own thread while the test starts the next process.
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PUTGATE_"))}


@pytest.fixture
def api(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> Iterator[ApiProcess]:
    """A running API in front of the shared SeaweedFS, with a prefix of its own."""
    process = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix).start_probed()
    yield process
    process.kill()


@pytest.fixture(scope="session")
def shared_api(tmp_path_factory: pytest.TempPathFactory, seaweedfs: SeaweedFS) -> Iterator[ApiProcess]:
    """One running API for all tests that leave it as it is; keep apart by names."""
    prefix = f"shared-{secrets.token_hex(4)}/"
    process = ApiProcess(tmp_path_factory.mktemp("api"), seaweedfs, prefix=prefix).start_probed()
    yield process
    process.kill()
