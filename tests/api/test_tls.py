"""TLS of the API's port: opened when its files appear, never without them, and rotated under running calls."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509

from putgate_api.tls import ServerTls
from tests.api.calls import Calls
from tests.api.waiting import until
from tests.servers.api import ApiProcess
from tests.servers.certificates import Authority, swap
from tests.servers.seaweedfs import SeaweedFS


@pytest.fixture(name="tls_api")
def an_api_with_tls(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> Iterator[ApiProcess]:
    """Configured, not running, without its files; `url` is https."""
    api = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix)
    folder = tmp_path / "tls"
    api.settings["listen"]["tls"] = {"cert_file": str(folder / "tls.crt"), "key_file": str(folder / "tls.key")}
    api.url = f"https://127.0.0.1:{api.port}"
    yield api
    api.kill()


def put(folder: Path, pair: tuple[bytes, bytes]) -> None:
    swap(folder, {"tls.crt": pair[0], "tls.key": pair[1]})


def trusting(*authorities: Authority) -> ssl.SSLContext:
    pem = b"".join(authority.pem for authority in authorities)
    return ssl.create_default_context(cadata=pem.decode())


async def serial(api: ApiProcess, trust: ssl.SSLContext, name: str | None = None) -> int:
    """Of the certificate that a new connection gets, by name (SNI) or by address."""
    host = name or "127.0.0.1"
    _, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=trust, server_hostname=host)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return x509.load_der_x509_certificate(found).serial_number


def number(pair: tuple[bytes, bytes]) -> int:
    return x509.load_pem_x509_certificate(pair[0]).serial_number


async def readyz(http: aiohttp.ClientSession, api: ApiProcess) -> tuple[int, str]:
    async with http.get(f"{api.admin_url}/readyz") as answer:
        return answer.status, await answer.text()


def is_open(api: ApiProcess) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", api.port)) == 0


async def test_without_its_files_the_port_stays_closed_and_opens_when_they_come(
    http: aiohttp.ClientSession, tls_api: ApiProcess, tmp_path: Path
) -> None:
    authority, folder = Authority(), tmp_path / "tls"
    tls_api.start(wait=False)
    status, text = await until(lambda: readyz(http, tls_api), lambda answer: "SecretMissing" in answer[1])
    assert status == 503
    assert "tls.crt" in text
    # The bucket is ready meanwhile, and still there is no port.
    await until(lambda: asyncio.to_thread(tls_api.log.read_text), lambda log: '"event": "ready"' in log)
    assert not is_open(tls_api)
    assert (await readyz(http, tls_api))[0] == 503
    broken = authority.issue()[0], authority.issue()[1]
    put(folder, broken)
    await until(lambda: readyz(http, tls_api), lambda answer: "belong together" in answer[1])
    assert not is_open(tls_api)
    put(folder, authority.issue())
    await until(lambda: readyz(http, tls_api), lambda answer: answer[0] == 200)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting(authority))) as secure:
        calls = Calls(secure, tls_api.url, tls_api.token)
        await calls.upload("x", b"content")
        assert await calls.download("x") == b"content"
        _, found = await calls.list()
        assert found["files"][0]["name"] == "x"
        answer = await calls.initiate("x", b"content")
        assert answer[1]["file"]["url"] == f"{tls_api.url}/files/x"
    with pytest.raises(aiohttp.ClientConnectionError):
        await http.get(f"http://127.0.0.1:{tls_api.port}/files")


@pytest.mark.slow
async def test_new_connections_get_the_new_certificate_and_old_ones_go_on(tls_api: ApiProcess, tmp_path: Path) -> None:
    authority, other, folder = Authority(), Authority("other"), tmp_path / "tls"
    trust = trusting(authority, other)
    first, second, third = authority.issue(), other.issue(), authority.issue()
    put(folder, first)
    await asyncio.to_thread(tls_api.start)
    assert await serial(tls_api, trust) == number(first)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust, limit=1)) as secure:
        calls = Calls(secure, tls_api.url, tls_api.token)
        opened = await calls.initiate("x", b"content")
        put(folder, second)
        await until(lambda: serial(tls_api, trust), lambda found: found == number(second))
        assert await serial(tls_api, trust, "localhost") == number(second)
        # The connection of before still serves.
        assert await calls.put_parts(opened[1], b"content") == [200]
        assert (await calls.post("complete_multipart_upload", {"upload_id": opened[1]["upload_id"]}))[0] == 200
    # A pair that does not fit, one that is no PEM, one with a passphrase, and none at all: the old one goes on.
    passphrase = authority.issue(passphrase=b"secret")
    for turn, broken in enumerate([(third[0], first[1]), (b"nonsense", b"nonsense"), passphrase]):
        put(folder, broken)
        await until(
            lambda: asyncio.to_thread(tls_api.log.read_text),
            lambda log, turn=turn: log.count("certificate cannot be used") >= min(turn + 1, 2),
        )
        assert await serial(tls_api, trust) == number(second)
    for name in ("tls.crt", "tls.key"):
        (folder / name).unlink()
    await until(lambda: asyncio.to_thread(tls_api.log.read_text), lambda log: "No such file" in log)
    assert await serial(tls_api, trust) == number(second)
    put(folder, third)
    await until(lambda: serial(tls_api, trust), lambda found: found == number(third))
    log = tls_api.log.read_text()
    assert "PRIVATE KEY" not in log
    assert "Enter PEM pass phrase" not in log


async def test_what_is_older_than_tls_12_is_refused(tls_api: ApiProcess, tmp_path: Path) -> None:
    authority = Authority()
    put(tmp_path / "tls", authority.issue())
    await asyncio.to_thread(tls_api.start)
    for version, good in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)):
        trust = trusting(authority)
        trust.minimum_version = trust.maximum_version = version
        assert bool(await serial(tls_api, trust)) is good
    context = ServerTls(cert_file=tmp_path / "tls" / "tls.crt", key_file=tmp_path / "tls" / "tls.key")
    assert context.look()
    assert context.context.minimum_version >= ssl.TLSVersion.TLSv1_2


async def test_a_port_that_is_taken_when_the_files_come_is_opened_when_it_is_free(
    http: aiohttp.ClientSession, tls_api: ApiProcess, tmp_path: Path
) -> None:
    authority = Authority()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", tls_api.port))
        taken.listen()
        tls_api.start(wait=False)
        await until(lambda: readyz(http, tls_api), lambda answer: "SecretMissing" in answer[1])
        put(tmp_path / "tls", authority.issue())
        found = await until(lambda: readyz(http, tls_api), lambda answer: "cannot listen" in answer[1])
        assert found[0] == 503
    await until(lambda: readyz(http, tls_api), lambda answer: answer[0] == 200)
    assert await serial(tls_api, trusting(authority))


def test_there_is_no_context_without_a_certificate(tmp_path: Path) -> None:
    tls = ServerTls(cert_file=tmp_path / "crt", key_file=tmp_path / "key")
    assert not tls.look()
    assert str(tmp_path / "crt") in str(tls.failure)
    with pytest.raises(RuntimeError):
        _ = tls.context


def test_what_openssl_would_ask_about_is_refused_without_asking(tmp_path: Path) -> None:
    authority = Authority()
    tls = ServerTls(cert_file=tmp_path / "tls.crt", key_file=tmp_path / "tls.key")
    put(tmp_path, authority.issue(passphrase=b"secret"))
    assert not tls.look()
    assert "need no passphrase" in str(tls.failure)
    put(tmp_path, authority.issue())
    assert tls.look()
    assert tls.failure is None
