"""The loop of the leader: sweep, then keep looking at what has changed, one UploadBucket at a time each."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection
from dataclasses import dataclass

import structlog

from putgate_operator.api_server import ApiServer
from putgate_operator.apply import Applier
from putgate_operator.errors import Conflict, Gone, Hindered, NotLeader, OperatorError
from putgate_operator.kinds import LABEL, NAMESPACE, UPLOAD_BUCKET, WATCHED
from putgate_operator.metrics import Metrics
from putgate_operator.observe import Observer, askable
from putgate_operator.observed import dig
from putgate_operator.pod_reports import PodReports
from putgate_operator.pods import Trouble
from putgate_operator.queue import WorkQueue
from putgate_operator.reconcile import reconcile
from putgate_operator.resources import UploadBucket
from putgate_operator.seen import Place, Seen
from putgate_operator.status import events, hindered

RESYNC = 600.0
"""Seconds between two sweeps, ± 10 %. A sweep finds what watches have missed; sooner is only load."""

GRACE = 20.0
"""Seconds for what is in work when the operator is asked to stop."""

log = structlog.get_logger("putgate.operator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """`namespaces`: those that are watched; empty for all of the cluster."""

    server: ApiServer
    seen: Seen
    queue: WorkQueue[Place]
    observer: Observer
    applier: Applier
    reports: PodReports
    metrics: Metrics
    namespaces: Collection[str]
    workers: int
    resync: float = RESYNC

    async def lead(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then finish what is in work. Cancelled, it leaves things as they are: any later leader
        goes on from there.
        """
        await self._first_sweep()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.queue.run(self._work, workers=self.workers)),
                group.create_task(self.reports.run()),
                group.create_task(self._sweeps()),
            ]
            await stop.wait()
            self.queue.close()
            try:
                async with asyncio.timeout(GRACE):
                    await self.queue.drained()
            except TimeoutError:
                log.warning("some work is left to the next leader", seconds=GRACE)
            for task in tasks:
                task.cancel()

    async def _first_sweep(self) -> None:
        delay = 1.0
        while True:
            try:
                await self.sweep()
                return
            except OperatorError as error:
                log.warning("the cluster cannot be read", code=error.code, reason=str(error), again_in=delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 30.0)

    async def _sweeps(self) -> None:
        while True:
            await asyncio.sleep(self.resync * random.uniform(0.9, 1.1))
            try:
                await self.sweep()
            except OperatorError as error:
                log.warning("a sweep failed", code=error.code, reason=str(error))

    async def sweep(self) -> None:
        """List everything, and look at every UploadBucket again. Raises `OperatorError`."""
        for namespace in self.namespaces or (None,):
            for kind in WATCHED:
                bodies, version = await self.server.list_all(kind, namespace, label=LABEL)
                self.seen.replace_all(kind, namespace, bodies, version)
            bodies, version = await self.server.list_all(UPLOAD_BUCKET, namespace)
            gone = self.seen.replace_all(UPLOAD_BUCKET, namespace, bodies, version)
            if namespace is None:
                bodies, version = await self.server.list_all(NAMESPACE, None)
                self.seen.replace_all(NAMESPACE, None, bodies, version)
            elif (found := await self.server.get(NAMESPACE, None, namespace)) is not None:
                self.seen.put(NAMESPACE, found)
            for place in gone:
                self.queue.add(place)
        for raw in self.seen.all(UPLOAD_BUCKET):
            self.queue.add((raw["metadata"]["namespace"], raw["metadata"]["name"]))

    async def _work(self, place: Place) -> float | None:
        started = time.monotonic()
        outcome = "ok"
        try:
            return await self._reconcile(place)
        except (Conflict, Gone) as error:
            # The cluster has moved on: what it looks like now is decided anew.
            outcome = error.code
            log.info("looking again", namespace=place[0], name=place[1], code=error.code, reason=str(error))
            raise
        except NotLeader as error:
            outcome = error.code
            raise
        except OperatorError as error:
            outcome = error.code
            log.warning("not reconciled", namespace=place[0], name=place[1], code=error.code, reason=str(error))
            raise
        except Exception:
            outcome = "failed"
            log.exception("not reconciled", namespace=place[0], name=place[1])
            raise
        finally:
            self.metrics.reconciled(outcome, time.monotonic() - started)

    async def _reconcile(self, place: Place) -> float | None:
        raw = self.seen.get(UPLOAD_BUCKET, *place)
        if raw is None:
            self.queue.forget(place)
            self.reports.want(place, ())
            self.applier.forget(place)
            return None
        await self.observer.look(place)
        bucket = UploadBucket.parse(raw)
        self.reports.want(place, askable(self.seen, place, ready=_is_ready(raw)))
        # From here to `granted` nothing waits: two workers must not give the last slot to two Deployments.
        observed = self.observer.observe(bucket, self.reports.of(place))
        desired = reconcile(observed)
        rolls = any(manifest["kind"] == "Deployment" for manifest in desired.apply)
        if rolls:
            self.observer.granted.add(place)
        try:
            await self.applier.carry_out(raw, desired)
        except Hindered as error:
            why = Trouble(reason=error.reason, message=error.message)
            after = hindered(bucket, desired.status, observed.now, why)
            await self.applier.tell(raw, after, events(bucket.status, after))
            raise
        finally:
            self.observer.granted.discard(place)
        if desired.abandoned is not None:
            self.metrics.abandoned.inc()
            log.error("a bucket is kept", namespace=place[0], name=place[1], reason=desired.abandoned)
        # What was applied tells of itself only if it has changed.
        return 0.0 if desired.apply else desired.requeue_after


def _is_ready(raw: dict[str, object]) -> bool:
    conditions = dig(raw, "status", "conditions", default=())
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
