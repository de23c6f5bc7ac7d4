"""A real MinIO, its last release, one process per pytest worker on loopback.

It is published as a Go module only: `make minio` (this module run as a program) builds it once into a cache folder.
It is a separate process of the tests (AGPL), never a part of anything that is installed.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers.go import cache, go_binary, install, say, timed
from tests.servers.kube.program import Program
from tests.servers.ports import free_ports
from tests.servers.required import missing
from tests.servers.s3 import Identity, S3Server, client

VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
BUCKET = "putgate-test"
START_DEADLINE = 120.0

_PACKAGE = f"github.com/minio/minio@{VERSION}"


def minio_binary() -> Path:
    """Where this version is, or will be after `build`; PUTGATE_MINIO names another."""
    named = os.environ.get("PUTGATE_MINIO")
    return Path(named) if named else cache() / f"minio-{VERSION}" / "minio"


def build() -> None:
    """Raises `subprocess.CalledProcessError` when the build fails."""
    target = minio_binary()
    if os.access(target, os.X_OK):
        say("MinIO is there:", str(target))
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    go = go_binary()
    # Beside the target, so that it appears by one rename: two builds at once do no harm.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
        work = Path(folder) / "minio"
        timed(f"minio {VERSION}", lambda: install(go, _PACKAGE, work))
        (work / "out" / "minio").replace(target)
    say("built into", str(target.parent))


def require_minio() -> Path:
    """The binary, or a skip that says how to get it (a failure where everything is required)."""
    found = minio_binary()
    if not os.access(found, os.X_OK):
        missing("needs MinIO: make minio")
    return found


class Minio:
    """One server on fixed ports and a fixed folder, so that it can be stopped, killed and started again."""

    root = Identity(access_key="putgate-test-key", secret_key="putgate-test-secret")

    def __init__(self, binary: Path, folder: Path) -> None:
        self._port, self._console = free_ports(2)
        (folder / "data").mkdir()
        # Only by its environment are its root's credentials set; `env` keeps them out of ours.
        settings = {
            "MINIO_ROOT_USER": self.root.access_key,
            "MINIO_ROOT_PASSWORD": self.root.secret_key,
            "MINIO_BROWSER": "off",
            # It would ask its makers for news, and look at the folder of whoever runs it for certificates.
            "MINIO_UPDATE": "off",
            "HOME": str(folder),
        }
        self._program = Program(
            [
                str(binary),
                "server",
                "--quiet",
                f"--address=127.0.0.1:{self._port}",
                f"--console-address=127.0.0.1:{self._console}",
                str(folder / "data"),
            ],
            folder / "minio.log",
            environment=settings,
        )

    @property
    def server(self) -> S3Server:
        endpoint = f"http://127.0.0.1:{self._port}"
        return S3Server(provider="MinIO", endpoint=endpoint, bucket=BUCKET, identity=self.root)

    def start(self) -> None:
        """Start, wait until it serves, and have the bucket."""
        self._program.start()
        deadline = time.monotonic() + START_DEADLINE
        try:
            while not self._ready():
                self._program.check()
                assert time.monotonic() < deadline, f"MinIO does not serve:\n{self._program.tail()}"
                time.sleep(0.05)
            with closing(self.server.client()) as s3:
                if BUCKET not in [each["Name"] for each in s3.list_buckets()["Buckets"]]:
                    s3.create_bucket(Bucket=BUCKET)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        self._program.kill()

    def identity(self, *actions: str, prefix: str = "") -> Identity:
        """Temporary credentials that allow only these actions (`s3:PutObject`, …) on what is below `prefix`."""
        resources = [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/{prefix}*"]
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": resources}
        with closing(client(self.server.endpoint, self.root, "sts")) as sts:
            answer = sts.assume_role(
                RoleArn="arn:minio:iam:::role/any",
                RoleSessionName=secrets.token_hex(4),
                Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
            )["Credentials"]
        return Identity(
            access_key=answer["AccessKeyId"], secret_key=answer["SecretAccessKey"], token=answer["SessionToken"]
        )

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", "/minio/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@pytest.fixture(scope="session")
def own_minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    """One server for all tests of a worker; a test that stops its store starts its own."""
    own = Minio(require_minio(), tmp_path_factory.mktemp("minio"))
    try:
        own.start()
        yield own
    finally:
        own.kill()


@pytest.fixture(scope="session")
def minio(own_minio: Minio) -> S3Server:
    return own_minio.server


if __name__ == "__main__":
    build()
