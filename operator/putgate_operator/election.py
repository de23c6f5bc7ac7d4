"""Leadership by a coordination Lease: at most one process of several writes.

Written here because what libraries offer does not hold: the Python client's elector never creates the Lease, sets no
time limit on its requests and goes on after its lease has ended. The rules are client-go's: a lease is judged by how
long *this* process has seen it unchanged, never by the clocks of others, and every change is a compare-and-swap.

    acquired ──renewed every 2 s──▶ … no renewal for 10 s: no write any more ──5 s later──▶ another may acquire

`guard` is asked before each write, so that a process that was stopped and goes on writes nothing.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from putgate_operator.errors import Conflict, NotLeader, OperatorError
from putgate_operator.kinds import LEASE, Kind

LEASE_DURATION = 15.0
"""Seconds without a change after which others may take a lease. Longer delays a takeover; shorter leaves no margin."""

RENEW_DEADLINE = 10.0
"""Seconds after the last renewal began in which this process may still write. The margin to LEASE_DURATION covers a
write under way."""

RETRY_PERIOD = 2.0
"""Seconds between renewals, and between attempts."""

log = structlog.get_logger("putgate.operator")


class Leases(Protocol):
    """Unguarded calls: the elector is what the guard asks."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | None: ...
    async def create(self, kind: Kind, body: dict[str, Any]) -> dict[str, Any]: ...
    async def replace(self, kind: Kind, body: dict[str, Any]) -> dict[str, Any]: ...


def boot_time() -> float:
    """Seconds that go on while the machine, or this process, sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Elector:
    """`run` leads whenever it can. `identity`: unique to this process."""

    def __init__(
        self,
        leases: Leases,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float] = boot_time,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._leases = leases
        self._namespace, self._name = namespace, name
        self._identity = identity
        self._clock, self._wall = clock, wall
        self._held: dict[str, Any] | None = None
        self._renewed = 0.0
        self._seen: tuple[str, float] = ("", 0.0)

    @property
    def leading(self) -> bool:
        return self._held is not None and self._clock() - self._renewed < RENEW_DEADLINE

    @property
    def overdue(self) -> bool:
        """It led, and has neither renewed nor given up since: the event loop does not get to run."""
        return self._held is not None and self._clock() - self._renewed > LEASE_DURATION

    def guard(self) -> None:
        """Raises `NotLeader` unless this process surely leads."""
        if not self.leading:
            raise NotLeader("this process does not lead, or not surely so")

    async def run(self, work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        """Acquire, and run `work` while leading; cancelled when the lease is lost. Returns when `work` does, which
        ends soon after `stop`: the lease is then released at once. Being cancelled releases it too, after `work` has
        ended.
        """
        while await self._acquire(stop):
            log.info("leading", identity=self._identity)
            working = asyncio.ensure_future(work())
            renewing = asyncio.create_task(self._renew())
            try:
                await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (working, renewing):
                    if not task.done():
                        task.cancel()
                await asyncio.gather(working, renewing, return_exceptions=True)
                await self._release()
            if not working.cancelled():
                working.result()
                return
            log.warning("leadership is lost; another may lead now", identity=self._identity)

    async def _acquire(self, stop: asyncio.Event) -> bool:
        """False when asked to stop before."""
        while not stop.is_set():
            if await self._try():
                return True
            try:
                async with asyncio.timeout(RETRY_PERIOD):
                    await stop.wait()
            except TimeoutError:
                pass
        return False

    async def _renew(self) -> None:
        """Returns when the lease is, or may be, another's."""
        while True:
            await asyncio.sleep(RETRY_PERIOD)
            if not self.leading:
                return
            if not await self._try() and self._held is None:
                return

    async def _try(self) -> bool:
        """One attempt to acquire or renew. A failed request leaves what is held as it is: it may still hold."""
        began = self._clock()
        try:
            found = await self._leases.get(LEASE, self._namespace, self._name)
            if found is not None and not self._free(found):
                self._held = None
                return False
            body = self._body(found)
            written = await (self._leases.create(LEASE, body) if found is None else self._leases.replace(LEASE, body))
        except Conflict:
            return False
        except OperatorError as error:
            log.warning("the lease could not be renewed", code=error.code, reason=str(error))
            return False
        self._held, self._renewed = written, began
        return True

    def _free(self, found: dict[str, Any]) -> bool:
        """Ours, nobody's, or unchanged for the whole of its duration, as seen from here."""
        spec = found.get("spec", {})
        version = str(found["metadata"].get("resourceVersion"))
        now = self._clock()
        if version != self._seen[0]:
            self._seen = (version, now)
        if spec.get("holderIdentity") in (None, "", self._identity):
            return True
        return now - self._seen[1] > float(spec.get("leaseDurationSeconds") or LEASE_DURATION)

    def _body(self, found: dict[str, Any] | None) -> dict[str, Any]:
        now = self._wall().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = {} if found is None else found.get("spec", {})
        ours = before.get("holderIdentity") == self._identity
        transitions = int(before.get("leaseTransitions") or 0)
        metadata = {"namespace": self._namespace, "name": self._name} if found is None else found["metadata"]
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": metadata,
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(LEASE_DURATION),
                "acquireTime": before.get("acquireTime", now) if ours else now,
                "renewTime": now,
                "leaseTransitions": transitions if ours or found is None else transitions + 1,
            },
        }

    async def _release(self) -> None:
        """Let the next one lead at once; when that fails it waits for the lease to end."""
        held, self._held = self._held, None
        if held is None:
            return
        spec = {**held["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._leases.replace(LEASE, {**held, "spec": spec})
        except OperatorError as error:
            log.warning("the lease could not be released", code=error.code)


class Watchdog(threading.Thread):
    """Ends the process when it leads by its own account but its event loop has renewed nothing for too long: what a
    blocked loop would still write, it would write into another's term.
    """

    def __init__(
        self, elector: Elector, *, end: Callable[[], None] = lambda: os._exit(70), period: float = 1.0
    ) -> None:
        super().__init__(name="lease-watchdog", daemon=True)
        self._elector = elector
        self._end = end
        self._period = period
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(self._period):
            if self._elector.overdue:
                self._end()
                return

    def stop(self) -> None:
        self._stopped.set()
