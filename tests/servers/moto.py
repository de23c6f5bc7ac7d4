"""moto's S3 server: a store that checks nothing, neither signatures nor digests. For plain flow only.

It is a program of its own: `pip install 'moto[server]' aiobotocore` (named together, so that both fit one botocore).
"""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers.kube.program import Program
from tests.servers.ports import free_port
from tests.servers.required import missing
from tests.servers.s3 import Identity, S3Server

BUCKET = "putgate-test"
START_DEADLINE = 120.0


def require_moto() -> Path:
    """The program, or a skip that says how to get it (a failure where everything is required)."""
    found = Path(sys.executable).with_name("moto_server")
    if not found.is_file():
        missing("needs moto: pip install 'moto[server]' aiobotocore")
    return found


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server, with everything in memory, for all tests of a worker."""
    port = free_port()
    command = [str(require_moto()), "-H", "127.0.0.1", "-p", str(port)]
    program = Program(command, tmp_path_factory.mktemp("moto") / "moto.log")
    identity = Identity(access_key="putgate-test-key", secret_key="putgate-test-secret")
    server = S3Server(provider="Generic", endpoint=f"http://127.0.0.1:{port}", bucket=BUCKET, identity=identity)
    program.start()
    try:
        deadline = time.monotonic() + START_DEADLINE
        while not _answers(port):
            program.check()
            assert time.monotonic() < deadline, f"moto does not serve:\n{program.tail()}"
            time.sleep(0.05)
        with closing(server.client()) as s3:
            s3.create_bucket(Bucket=BUCKET)
        yield server
    finally:
        program.kill()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/moto-api/data.json")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
