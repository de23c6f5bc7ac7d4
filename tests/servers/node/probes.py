"""Probes: is a container started, alive, ready? Asked as a kubelet asks, over the pod's own address."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from tests.servers.node.client import Object

PATIENCE = 3
"""Probes may take so many times longer than they say: a test machine is slower than a node, and runs the node too."""

Exec = Callable[[list[str]], Awaitable[int]]
"""Runs a command in the container and gives its exit code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`ports`: the container's, by name."""

    address: str
    ports: dict[str, int]
    run: Exec

    def port(self, value: int | str) -> int:
        return value if isinstance(value, int) else self.ports[value]


async def ask(probe: Object, target: Target, session: aiohttp.ClientSession) -> str | None:
    """None when all is well, else what is wrong."""
    try:
        async with asyncio.timeout(probe.get("timeoutSeconds", 1) * PATIENCE):
            return await _ask(probe, target, session)
    except TimeoutError:
        return "no answer in time"
    except (OSError, aiohttp.ClientError) as error:
        return str(error) or type(error).__name__


async def _ask(probe: Object, target: Target, session: aiohttp.ClientSession) -> str | None:
    if "httpGet" in probe:
        return await _http(probe["httpGet"], target, session)
    if "exec" in probe:
        code = await target.run(probe["exec"]["command"])
        return None if code == 0 else f"the command ended with {code}"
    socket = probe["tcpSocket"]
    _, writer = await asyncio.open_connection(socket.get("host") or target.address, target.port(socket["port"]))
    writer.close()
    return None


async def _http(get: Object, target: Target, session: aiohttp.ClientSession) -> str | None:
    host, port = get.get("host") or target.address, target.port(get["port"])
    url = f"{get.get('scheme', 'HTTP').lower()}://{host}:{port}{get.get('path', '/')}"
    headers = {each["name"]: each["value"] for each in get.get("httpHeaders", [])}
    # A kubelet verifies no certificate either.
    trusting = ssl._create_unverified_context()
    async with session.get(url, headers=headers, ssl=trusting, allow_redirects=False) as answer:
        await answer.read()
        return None if 200 <= answer.status < 400 else f"HTTP {answer.status}"


async def watch_probe(
    probe: Object,
    target: Target,
    session: aiohttp.ClientSession,
    told: Callable[[bool, str], Awaitable[None]],
) -> None:
    """Ask again and again; `told` whenever enough answers agree: well, or not and why. Ends by being cancelled."""
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    well = failed = 0
    while True:
        trouble = await ask(probe, target, session)
        well, failed = (0, failed + 1) if trouble else (well + 1, 0)
        if well >= probe.get("successThreshold", 1):
            await told(True, "")
        if failed >= probe.get("failureThreshold", 3):
            await told(False, trouble or "")
        await asyncio.sleep(probe.get("periodSeconds", 10))
