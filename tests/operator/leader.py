"""A leader's loop without watches and without an election: it learns of the cluster only by its sweeps."""

from __future__ import annotations

from datetime import UTC, datetime

import aiohttp

from putgate_operator.api_server import ApiServer
from putgate_operator.apply import Applier
from putgate_operator.controller import Controller
from putgate_operator.metrics import Metrics
from putgate_operator.observe import Observer
from putgate_operator.observed import OperatorSettings
from putgate_operator.pod_reports import PodReports
from putgate_operator.queue import WorkQueue
from putgate_operator.seen import Place, Seen
from putgate_operator.sweeps import Sweeps


def leader(
    server: ApiServer,
    http: aiohttp.ClientSession,
    operator: OperatorSettings,
    *,
    namespaces: tuple[str, ...],
    resync: float,
) -> Controller:
    seen, queue = Seen(), WorkQueue[Place]()
    return Controller(
        seen=seen,
        queue=queue,
        observer=Observer(server, seen, operator, lambda: datetime.now(UTC), namespaces_watched=False),
        applier=Applier(server, seen, instance="test"),
        reports=PodReports(http, queue.add),
        metrics=Metrics(),
        sweeps=Sweeps(server=server, seen=seen, queue=queue, namespaces=namespaces, resync=resync),
        workers=2,
    )
