"""Services: a forwarder on each cluster address and port, to the ready endpoints of the moment.

It listens only while there is an endpoint, so a Service without one refuses connections, as in a cluster.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator
from functools import partial

from tests.servers.node.client import Object
from tests.servers.node.relay import DIAL_WITHIN, Forwarder, Streams, forward, split

SERVICE_LABEL = "kubernetes.io/service-name"

Routes = dict[str, list[str]]
"""Address and port of a Service to those of its endpoints."""


class Forwarders:
    """`sync` after each change."""

    def __init__(self) -> None:
        self._servers: dict[str, Forwarder] = {}
        self._routes: Routes = {}

    def sync(self, routes: Routes) -> None:
        self._routes = routes
        for address in self._servers.keys() - routes.keys():
            # Connections that are open live on, as they do in a cluster.
            self._servers.pop(address).close()
        for address in routes.keys() - self._servers.keys():
            self._servers[address] = forward(*split(address), partial(self._dial, address))

    async def _dial(self, address: str) -> Streams:
        endpoints = self._routes.get(address)
        if not endpoints:
            raise ConnectionRefusedError(f"{address} has no endpoint")
        async with asyncio.timeout(DIAL_WITHIN):
            return await asyncio.open_connection(*split(random.choice(endpoints)))


def routes_of(services: Iterable[Object], slices: Iterable[Object]) -> Routes:
    """Only what has an endpoint that is ready."""
    all_slices = list(slices)
    result: Routes = {}
    for service in services:
        host = service["spec"].get("clusterIP", "None")
        if host in {"", "None"}:
            continue
        own = [each for each in all_slices if _belongs(each, service)]
        for port in service["spec"].get("ports", []):
            if port.get("protocol", "TCP") == "TCP" and (found := list(_endpoints(own, port.get("name", "")))):
                result[f"{host}:{port['port']}"] = found
    return result


def _belongs(endpoints: Object, service: Object) -> bool:
    metadata, own = endpoints["metadata"], service["metadata"]
    return bool(
        metadata["namespace"] == own["namespace"] and metadata.get("labels", {}).get(SERVICE_LABEL) == own["name"]
    )


def _endpoints(slices: list[Object], port_name: str) -> Iterator[str]:
    for each in slices:
        ports = [port["port"] for port in each.get("ports") or [] if port.get("name", "") == port_name]
        for endpoint in each.get("endpoints") or []:
            if endpoint.get("conditions", {}).get("ready", True):
                yield from (f"{address}:{port}" for address in endpoint["addresses"] for port in ports)
