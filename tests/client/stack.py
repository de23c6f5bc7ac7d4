"""The real thing around a client: SeaweedFS, the API, and a proxy before each, to count and to break things."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import putgate
from putgate_protocol.problems import STATUS
from tests.servers.api import ApiProcess
from tests.servers.proxy import StoreProxy
from tests.servers.proxy_calls import api_kind
from tests.servers.proxy_faults import Answer
from tests.servers.seaweedfs import SeaweedFS

COMMAND = Path(sys.executable).with_name("putgate")
MIB = 1024 * 1024


@dataclass(kw_only=True)
class Stack:
    """`folder`: of one test. `prefix`: a beginning for its names."""

    api: ApiProcess
    store: StoreProxy
    calls: StoreProxy
    folder: Path
    prefix: str = field(default_factory=lambda: f"n-{secrets.token_hex(4)}/")

    def client(self, **options: Any) -> putgate.Client:
        options.setdefault("give_up_after", timedelta(seconds=20))
        return putgate.Client(self.calls.url, token=self.api.token, options=putgate.Options(**options))

    def file(self, size: int, name: str = "source") -> Path:
        """A random file, old enough to be remembered."""
        path = self.folder / name
        with path.open("wb") as file:
            for at in range(0, size, MIB):
                file.write(os.urandom(min(MIB, size - at)))
        return path

    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PUTGATE_", "XDG_"))}
        return kept | {
            "PUTGATE_SERVER": self.calls.url,
            "PUTGATE_TOKEN": self.api.token,
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
        }

    def start(self, *arguments: str | bytes | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
            cwd=self.folder,
        )

    def run(self, *arguments: str | bytes | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *arguments],
            capture_output=True,
            text=True,
            timeout=600,
            env=self.environment() | environment,
            cwd=self.folder,
            check=False,
        )

    def open_uploads(self) -> list[str]:
        """Keys with an open multipart upload, below this test's names."""
        client: Any = self.api.store.client()
        try:
            listed = client.list_multipart_uploads(Bucket=self.api.store.bucket)
        finally:
            client.close()
        keys = [upload["Key"] for upload in listed.get("Uploads", [])]
        return [key for key in keys if key.startswith(self.api.prefix + self.prefix)]


@pytest.fixture(scope="module", name="servers")
def the_servers(
    tmp_path_factory: pytest.TempPathFactory, seaweedfs: SeaweedFS
) -> Iterator[tuple[ApiProcess, StoreProxy, StoreProxy]]:
    with StoreProxy(seaweedfs.endpoint) as store:
        api = ApiProcess(
            tmp_path_factory.mktemp("api"), seaweedfs, prefix=f"t-{secrets.token_hex(6)}/", endpoint=store.url
        ).start_probed()
        try:
            with StoreProxy(api.url, classify=api_kind) as calls:
                yield api, store, calls
        finally:
            api.kill()


@pytest.fixture(name="stack")
def a_stack(servers: tuple[ApiProcess, StoreProxy, StoreProxy], tmp_path: Path) -> Iterator[Stack]:
    api, store, calls = servers
    for proxy in (store, calls):
        proxy.reset()
    yield Stack(api=api, store=store, calls=calls, folder=tmp_path)
    for proxy in (store, calls):
        proxy.heal()


def refusal(code: str, **more: Any) -> Answer:
    """What the API answers when it says no."""
    body = {"code": code, "detail": "on demand", **more}
    return Answer(status=STATUS[code], body=json.dumps(body).encode(), content_type="application/problem+json")
