from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.servers.node.client import Object
from tests.servers.node.probes import Target, ask, watch_probe


def untrusted(folder: Path) -> ssl.SSLContext:
    """A certificate that nobody has reason to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now.replace(year=now.year + 1)
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "pair.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pair.pem")
    return context


async def answer(request: web.Request) -> web.Response:
    if request.path == "/slow":
        await asyncio.sleep(60)
    if request.path == "/header":
        return web.Response(status=200 if request.headers.get("X-Ask") == "yes" else 400)
    return web.Response(status={"/well": 200, "/moved": 302}.get(request.path, 503))


@pytest.fixture
async def ports(tmp_path: Path) -> AsyncIterator[dict[str, int]]:
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    for context in (None, untrusted(tmp_path)):
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    plain, secure = (address[1] for address in runner.addresses)
    yield {"http": plain, "https": secure}
    await runner.cleanup()


def target(ports: dict[str, int]) -> Target:
    async def run(argv: list[str]) -> int:
        return int(argv[-1])

    return Target(address="127.0.0.1", ports=ports, run=run)


@pytest.mark.parametrize(
    ("probe", "trouble"),
    [
        ({"httpGet": {"path": "/well", "port": "http"}}, None),
        ({"httpGet": {"path": "/well", "port": "https", "scheme": "HTTPS"}}, None),
        ({"httpGet": {"path": "/moved", "port": "http"}}, None),
        ({"httpGet": {"path": "/ill", "port": "http"}}, "HTTP 503"),
        (
            {"httpGet": {"path": "/header", "port": "http", "httpHeaders": [{"name": "X-Ask", "value": "yes"}]}},
            None,
        ),
        ({"httpGet": {"path": "/slow", "port": "http"}, "timeoutSeconds": 0.1}, "no answer in time"),
        ({"exec": {"command": ["exit", "0"]}}, None),
        ({"exec": {"command": ["exit", "3"]}}, "the command ended with 3"),
        ({"tcpSocket": {"port": "http"}}, None),
    ],
)
async def test_answers(ports: dict[str, int], http: aiohttp.ClientSession, probe: Object, trouble: str | None) -> None:
    assert await ask(probe, target(ports), http) == trouble


async def test_a_closed_port_is_trouble(http: aiohttp.ClientSession) -> None:
    assert "connect" in str(await ask({"tcpSocket": {"port": 1}}, target({}), http)).lower()


async def test_enough_answers_must_agree(http: aiohttp.ClientSession) -> None:
    codes, told, enough = [1, 0, 1, 1, 1, 0, 0], [], asyncio.Event()

    async def run(_: list[str]) -> int:
        if not codes:
            enough.set()
            await asyncio.Event().wait()
        return codes.pop(0)

    async def tell(well: bool, trouble: str) -> None:
        told.append((len(codes), well, trouble))

    probe = {"exec": {"command": ["x"]}, "failureThreshold": 3, "successThreshold": 2, "periodSeconds": 0}
    watching = asyncio.create_task(
        watch_probe(probe | {"timeoutSeconds": 60}, Target(address="", ports={}, run=run), http, tell)
    )
    await asyncio.wait_for(enough.wait(), 30)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert told == [(2, False, "the command ended with 1"), (0, True, "")]
