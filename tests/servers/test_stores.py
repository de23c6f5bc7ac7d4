"""The real stores as fixtures: that they are there, come and go, and say how to get them."""

from __future__ import annotations

import fcntl
import socket
import time
from contextlib import closing
from pathlib import Path

import botocore.exceptions
import pytest

from tests.servers import minio as minio_server
from tests.servers.ceph import Ceph, require_ceph, used
from tests.servers.ceph_cluster import READY, USERS
from tests.servers.minio import Minio, require_minio
from tests.servers.s3 import S3Server

DEADLINE = 60.0


@pytest.fixture(params=["minio", "ceph"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, S3Server)
    return found


def test_it_keeps_what_is_put(server: S3Server, prefix: str) -> None:
    with closing(server.client()) as s3:
        s3.put_object(Bucket=server.bucket, Key=prefix + "x", Body=b"kept")
        assert s3.get_object(Bucket=server.bucket, Key=prefix + "x")["Body"].read() == b"kept"


def refused(server: S3Server, s3: object, key: str) -> bool:
    try:
        s3.put_object(Bucket=server.bucket, Key=key, Body=b"x")  # type: ignore[attr-defined]
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"] == "AccessDenied"
    return False


def test_a_minio_identity_has_only_its_rights(own_minio: Minio, prefix: str) -> None:
    identity = own_minio.identity("s3:PutObject", prefix=prefix)
    with closing(own_minio.server.client(identity)) as s3:
        assert not refused(own_minio.server, s3, prefix + "x")
        assert refused(own_minio.server, s3, "elsewhere/x")


def test_another_ceph_user_has_no_rights(own_ceph: Ceph, prefix: str) -> None:
    with closing(own_ceph.server.client(own_ceph.user())) as s3:
        assert refused(own_ceph.server, s3, prefix + "x")


def test_a_minio_keeps_its_data_over_a_kill(tmp_path: Path) -> None:
    own = Minio(require_minio(), tmp_path)
    try:
        own.start()
        with closing(own.server.client()) as s3:
            s3.put_object(Bucket=own.server.bucket, Key="x", Body=b"kept")
        own.kill()
        own.start()
        with closing(own.server.client()) as s3:
            assert s3.get_object(Bucket=own.server.bucket, Key="x")["Body"].read() == b"kept"
    finally:
        own.kill()


def listening(endpoint: str) -> bool:
    host, port = endpoint.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), 2).close()
    except OSError:
        return False
    return True


def running_below(folder: Path) -> list[str]:
    """The programs whose command line names this folder."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.startswith(str(folder).encode()) for word in words):
            found.append(words[0].decode())
    return found


@pytest.mark.slow
def test_a_ceph_ends_with_its_last_user(tmp_path: Path) -> None:
    require_ceph()
    with used(tmp_path) as first:
        with used(tmp_path) as second:
            assert second.server == first.server
        assert listening(first.server.endpoint)
        # Three daemons, and the one who waits for its users to leave.
        assert len(running_below(tmp_path)) == 4
    deadline = time.monotonic() + DEADLINE
    while running_below(tmp_path):
        assert time.monotonic() < deadline, running_below(tmp_path)
        time.sleep(0.05)
    assert not listening(first.server.endpoint)
    assert not (tmp_path / READY).exists()
    with (tmp_path / USERS).open("ab") as users:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_missing_programs_are_named_with_the_command_that_brings_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("PUTGATE_MINIO", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for require, how in ((require_minio, "make minio"), (require_ceph, "apt-get install .*radosgw")):
        monkeypatch.delenv("PUTGATE_REQUIRE_ALL", raising=False)
        with pytest.raises(pytest.skip.Exception, match=how):
            require()
        monkeypatch.setenv("PUTGATE_REQUIRE_ALL", "1")
        with pytest.raises(pytest.fail.Exception, match=how):
            require()


def test_a_minio_that_is_there_is_not_built_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    binary = tmp_path / "minio"
    binary.touch(mode=0o755)
    monkeypatch.setenv("PUTGATE_MINIO", str(binary))
    minio_server.build()
    assert "MinIO is there" in capsys.readouterr().err
