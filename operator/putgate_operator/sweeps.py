"""Lists of everything: what a leader begins with, and what finds later what the watches have missed.

It fills the picture of the cluster and says which UploadBuckets to look at; it looks at none itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection
from dataclasses import dataclass, field

import structlog

from putgate_operator.api_server import ApiServer
from putgate_operator.errors import OperatorError
from putgate_operator.kinds import LABEL, NAMESPACE, UPLOAD_BUCKET, WATCHED
from putgate_operator.queue import WorkQueue
from putgate_operator.seen import Place, Seen

RESYNC = 600.0
"""Seconds between two sweeps, ± 10 %. A sweep finds what watches have missed; sooner is only load."""

SOON = 30.0
"""Seconds until what a sweep could not read is tried again."""

log = structlog.get_logger("putgate.operator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeps:
    """`namespaces`: those that are watched; empty for all of the cluster. `resync`: seconds between two sweeps."""

    server: ApiServer
    seen: Seen
    queue: WorkQueue[Place]
    namespaces: Collection[str]
    resync: float = RESYNC
    missed: asyncio.Event = field(default_factory=asyncio.Event)

    def soon(self) -> None:
        """What was deleted may have been missed."""
        self.missed.set()

    async def first(self, stop: asyncio.Event) -> None:
        """Until everything has been seen once; but for a namespace that cannot be read while others can."""
        delay = 1.0
        while not stop.is_set() and not await self._sweep():
            await _either(stop, delay)
            delay = min(delay * 2, 30.0)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await _either(self.missed, self.resync * random.uniform(0.9, 1.1))
            self.missed.clear()
            await self._sweep()

    async def _sweep(self) -> bool:
        """List everything, and look at every UploadBucket again. Whether any of it could be read; what could not is
        tried again soon.
        """
        read = False
        for namespace in self.namespaces or (None,):
            try:
                await self._read(namespace)
            except OperatorError as error:
                log.warning("the cluster cannot be read", namespace=namespace, code=error.code, reason=str(error))
                asyncio.get_running_loop().call_later(SOON, self.soon)
            else:
                read = True
        for raw in self.seen.all(UPLOAD_BUCKET):
            self.queue.add((raw["metadata"]["namespace"], raw["metadata"]["name"]))
        return read

    async def _read(self, namespace: str | None) -> None:
        for kind in WATCHED:
            bodies, version = await self.server.list_all(kind, namespace, label=LABEL)
            self.seen.replace_all(kind, namespace, bodies, version)
        bodies, version = await self.server.list_all(UPLOAD_BUCKET, namespace)
        for place in self.seen.replace_all(UPLOAD_BUCKET, namespace, bodies, version):
            self.queue.add(place)
        if namespace is None:
            bodies, version = await self.server.list_all(NAMESPACE, None)
            self.seen.replace_all(NAMESPACE, None, bodies, version)


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, or for some time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
