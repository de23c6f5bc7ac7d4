"""A real Ceph with its RADOS gateway, from Debian's packages: one for all workers of a test run.

It takes ten seconds and half a gigabyte, so the workers share it; `ceph_cluster` says how it comes and goes. Tests
share one bucket and keep apart by prefix.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.servers.ceph_cluster import FAILED, PROGRAMS, READY, START_DEADLINE, USERS, create_user
from tests.servers.ports import free_ports
from tests.servers.required import missing
from tests.servers.s3 import Identity, S3Server

BUCKET = "putgate-test"
HOW = "apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common"

_ROOT = Identity(access_key="putgate-test-key", secret_key="putgate-test-secret")
_TRIES = 3
_TREE = Path(__file__).parents[2]


def require_ceph() -> None:
    """A skip that says how to get the programs, where one is missing (a failure where everything is required)."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if lacking:
        missing(f"needs {', '.join(lacking)}: {HOW}")


class Ceph:
    """The gateway of a cluster in `folder`, for as long as `used` lasts."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self.server = S3Server(provider="Ceph", endpoint=f"http://127.0.0.1:{port}", bucket=BUCKET, identity=_ROOT)

    def user(self) -> Identity:
        """Another user, who has no right to the bucket."""
        name = f"user-{secrets.token_hex(6)}"
        create_user(self._folder / "cluster", name, name, f"{name}-secret")
        return Identity(access_key=name, secret_key=f"{name}-secret")

    def have_bucket(self) -> None:
        with closing(self.server.client()) as s3:
            s3.create_bucket(Bucket=BUCKET)


@contextmanager
def used(folder: Path) -> Iterator[Ceph]:
    """The cluster of `folder`, started by whoever comes first and ended when the last has left."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / USERS).open("ab") as users, (folder / "start.lock").open("ab") as starting:
        # Waits while a cluster that nobody used any more is ending.
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(starting, fcntl.LOCK_EX)
        if not (folder / READY).exists():
            _come_up(folder)
        ceph = Ceph(folder, json.loads((folder / READY).read_text())["port"])
        ceph.have_bucket()
        fcntl.flock(starting, fcntl.LOCK_UN)
        yield ceph


def _come_up(folder: Path) -> None:
    """Another process may take a port between its choice and its use, and then nothing comes up behind it."""
    for _ in range(_TRIES - 1):
        if _start(folder):
            return
    assert _start(folder), f"{(folder / FAILED).read_text()}; see {folder}/cluster.log"


def _start(folder: Path) -> bool:
    """Whether it came up, on ports that were free a moment ago."""
    shutil.rmtree(folder / "cluster", ignore_errors=True)
    (folder / FAILED).unlink(missing_ok=True)
    ports = [str(port) for port in free_ports(2)]
    with (folder / "cluster.log").open("ab") as log:
        subprocess.run(
            [sys.executable, "-m", "tests.servers.ceph_cluster", folder, *ports, _ROOT.access_key, _ROOT.secret_key],
            cwd=_TREE, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True,
        )  # fmt: skip
    deadline = time.monotonic() + START_DEADLINE
    while not (folder / READY).exists():
        if (folder / FAILED).exists():
            return False
        assert time.monotonic() < deadline, f"Ceph does not come up; see {folder}/cluster.log"
        time.sleep(0.1)
    return True


@pytest.fixture(scope="session")
def own_ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    require_ceph()
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # The run's own folder, which its workers have in common.
        folder = folder.parent
    with used(folder / "ceph") as ceph:
        yield ceph


@pytest.fixture(scope="session")
def ceph(own_ceph: Ceph) -> S3Server:
    return own_ceph.server
