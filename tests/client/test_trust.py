"""A private CA: the API and the store behind it are trusted with its file, and without it never."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

import putgate
from putgate.trust import trust
from tests.servers.api import ApiProcess
from tests.servers.certificates import Authority
from tests.servers.seaweedfs import SeaweedFS
from tests.servers.tls_front import TlsFront

COMMAND = Path(sys.executable).with_name("putgate")
PATIENCE = putgate.Options(give_up_after=timedelta(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Private:
    """An API with TLS in front of a store with TLS, both vouched for by `ca_file` alone."""

    api: ApiProcess
    ca_file: Path


@pytest.fixture(scope="module", name="private")
def a_private_world(tmp_path_factory: pytest.TempPathFactory, seaweedfs: SeaweedFS) -> Iterator[Private]:
    folder, authority = tmp_path_factory.mktemp("private"), Authority()
    (folder / "ca.crt").write_bytes(authority.pem)
    certificate, key = authority.issue()
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "tls.key").write_bytes(key)
    with TlsFront(seaweedfs.endpoint, authority, folder / "front") as store:
        api = ApiProcess(folder / "api", seaweedfs, prefix=f"private-{os.urandom(4).hex()}/", endpoint=store.url)
        api.settings["storage"]["s3"]["ca_bundle"] = str(folder / "ca.crt")
        api.settings["listen"]["tls"] = {"cert_file": str(folder / "tls.crt"), "key_file": str(folder / "tls.key")}
        api.url = f"https://localhost:{api.port}"
        api.start()
        try:
            yield Private(api=api, ca_file=folder / "ca.crt")
        finally:
            api.kill()


def client(private: Private, ca_file: Path | None) -> putgate.Client:
    return putgate.Client(private.api.url, token=private.api.token, options=PATIENCE, ca_file=ca_file)


async def test_the_bundle_is_trusted_for_api_and_store(private: Private, tmp_path: Path) -> None:
    data = os.urandom(9 * 1024 * 1024)
    async with client(private, private.ca_file) as opened:
        await opened.upload(data, "large")
        await opened.upload(b"small", "small")
        await opened.download("large", tmp_path / "large")
        assert (tmp_path / "large").read_bytes() == data


async def test_without_it_nothing_is_sent(private: Private, tmp_path: Path) -> None:
    async with client(private, None) as opened:
        with pytest.raises(putgate.Unreachable, match="no certificate that is trusted here"):
            await opened.upload(b"x", "x")
    other = tmp_path / "other.crt"
    other.write_bytes(Authority("other").pem)
    async with client(private, other) as opened:
        with pytest.raises(putgate.Unreachable, match="trusted"):
            await opened.upload(b"x", "x")


def test_the_systems_certificates_stay_trusted(private: Private) -> None:
    known = {found["serialNumber"] for found in trust(private.ca_file).get_ca_certs()}
    system = {found["serialNumber"] for found in ssl.create_default_context().get_ca_certs()}
    assert system < known


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.touch()
    binary.write_bytes(os.urandom(100))
    for path in (empty, binary):
        with pytest.raises(ValueError, match=f"{path} holds no certificates"):
            putgate.Client("https://localhost", ca_file=path)
    with pytest.raises(FileNotFoundError):
        putgate.Client("https://localhost", ca_file=tmp_path / "absent")


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PUTGATE_", "XDG_"))}
    own = {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_STATE_HOME": str(folder / "state")}
    return subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=kept | own | environment,
        cwd=folder,
        check=False,
    )


@pytest.mark.parametrize("how", ["flag", "environment", "file"])
def test_the_command_takes_it_from_a_flag_the_environment_or_its_file(
    private: Private, tmp_path: Path, how: str
) -> None:
    (tmp_path / "note").write_text("content")
    token = tmp_path / "token"
    token.write_text(private.api.token)
    arguments = ["--server", private.api.url, "--token-file", str(token)]
    environment: dict[str, str] = {}
    match how:
        case "flag":
            arguments += ["--ca-file", str(private.ca_file)]
        case "environment":
            environment["PUTGATE_CA_FILE"] = str(private.ca_file)
        case _:
            config = tmp_path / "config" / "putgate" / "config.yaml"
            config.parent.mkdir(parents=True)
            config.write_text(json.dumps({"ca_file": str(private.ca_file)}))
    done = run(tmp_path, "upload", "note", "--to", f"{how}/", *arguments, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    done = run(tmp_path, "download", f"{how}/note", "back", *arguments, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "back").read_text() == "content"


def test_the_command_says_what_is_wrong_with_it(private: Private, tmp_path: Path) -> None:
    server = ["ls", "--server", private.api.url, "--token", "x", "--retry-for", "0s"]
    done = run(tmp_path, *server)
    assert done.returncode == 3
    assert "no certificate that is trusted here (a CA file adds one)" in done.stderr
    done = run(tmp_path, *server, "--ca-file", str(tmp_path / "absent"))
    assert done.returncode == 2
    assert f"the CA file {tmp_path / 'absent'} cannot be read: No such file" in done.stderr
    (tmp_path / "empty").touch()
    done = run(tmp_path, *server, PUTGATE_CA_FILE=str(tmp_path / "empty"))
    assert done.returncode == 2
    assert f"{tmp_path / 'empty'} holds no certificates in PEM" in done.stderr
    for text in (done.stderr, done.stdout):
        assert "Traceback" not in text
