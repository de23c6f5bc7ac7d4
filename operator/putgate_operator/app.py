"""Composition: watches fill what is seen, the elector says who works, the controller works. Nothing is decided here."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import structlog
from kubernetes.aio import config
from kubernetes.aio.client.configuration import Configuration

from putgate_operator.access import Access
from putgate_operator.api_server import WRITE_TIMEOUT, ApiServer
from putgate_operator.apply import Applier
from putgate_operator.controller import Controller
from putgate_operator.election import Elector, Watchdog
from putgate_operator.handlers import Watching
from putgate_operator.health import serving
from putgate_operator.metrics import Metrics
from putgate_operator.observe import Observer
from putgate_operator.observed import OperatorSettings
from putgate_operator.pod_reports import PodReports
from putgate_operator.queue import WorkQueue
from putgate_operator.seen import Place, Seen
from putgate_operator.sweeps import RESYNC, Sweeps
from putgate_operator.watches import Watches

log = structlog.get_logger("putgate.operator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says. `identity`: of this process, unique; a pod's name. `resync`: seconds."""

    settings: OperatorSettings
    namespaces: Collection[str]
    lease_namespace: str
    lease_name: str
    identity: str
    health_port: int
    workers: int
    resync: float = RESYNC


async def run(options: Options) -> None:
    """Until SIGTERM or SIGINT: then what is in work is finished and the lease given back."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    configuration = await _configuration()
    metrics = Metrics()
    seen = Seen()
    queue: WorkQueue[Place] = WorkQueue()
    watching = Watching(seen, queue.add, namespaces=not options.namespaces)
    leases = ApiServer(configuration, observe=metrics.requested, read_timeout=WRITE_TIMEOUT)
    elector = Elector(leases, namespace=options.lease_namespace, name=options.lease_name, identity=options.identity)
    server = ApiServer(configuration, guard=elector.guard, observe=metrics.requested)
    metrics.follow(
        # A standby only keeps its queue warm.
        depth=lambda: queue.depth if elector.leading else 0,
        oldest=lambda: queue.oldest if elector.leading else 0.0,
        event_age=lambda: time.monotonic() - watching.last_event,
        leading=lambda: float(elector.leading),
    )
    async with (
        contextlib.aclosing(leases),
        contextlib.aclosing(server),
        aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as http,
        _proven(Access(server, options.namespaces)) as access,
    ):
        sweeps = Sweeps(server=server, seen=seen, queue=queue, namespaces=options.namespaces, resync=options.resync)
        controller = Controller(
            seen=seen,
            queue=queue,
            observer=Observer(
                server,
                seen,
                options.settings,
                lambda: datetime.now(UTC),
                namespaces_watched=not options.namespaces,
            ),
            applier=Applier(server, seen, instance=options.identity),
            reports=PodReports(http, queue.add),
            metrics=metrics,
            sweeps=sweeps,
            workers=options.workers,
        )
        watches = [Watches(watching, each, sweeps.soon) for each in options.namespaces or (None,)]

        def why_not_ready() -> str | None:
            reasons = (access.why_not, *(each.why_not_ready() for each in watches))
            return next((reason for reason in reasons if reason is not None), None)

        async with _watched(watches), serving(options.health_port, metrics.registry, why_not_ready):
            watchdog = Watchdog(elector)
            watchdog.start()
            lag = asyncio.create_task(_measure_lag(metrics))
            try:
                await elector.run(lambda: controller.lead(stop), stop)
            finally:
                watchdog.stop()
                lag.cancel()
    log.info("stopped")


@contextlib.asynccontextmanager
async def _watched(watches: Sequence[Watches]) -> AsyncIterator[None]:
    """Watch for the length of a block."""
    for each in watches:
        each.start()
    try:
        yield
    finally:
        await asyncio.gather(*(each.stop() for each in watches))


@contextlib.asynccontextmanager
async def _proven(access: Access) -> AsyncIterator[Access]:
    """Find out during a block what may be read."""
    proving = asyncio.create_task(access.prove())
    try:
        yield access
    finally:
        proving.cancel()


async def _measure_lag(metrics: Metrics, period: float = 1.0) -> None:
    while True:
        before = time.monotonic()
        await asyncio.sleep(period)
        metrics.loop_lag.set(max(0.0, time.monotonic() - before - period))


async def _configuration() -> Configuration:
    """The pod's own, or that of $KUBECONFIG."""
    configuration = Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        await config.load_kube_config(client_configuration=configuration)
    configuration.connection_pool_maxsize = 64
    # A proxy for the internet is none for the API server, and looking for one costs two file reads a request.
    configuration.client_session_kwargs = {"trust_env": False}
    return configuration
