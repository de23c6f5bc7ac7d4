"""The loop of the leader: sweep, then keep looking at what has changed, one UploadBucket at a time each.

What one look at an UploadBucket comes to is decided by `reconcile`; this only asks, carries out and says how it went.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import structlog

from putgate_operator.apply import Applier
from putgate_operator.desired.manifest import without_empty
from putgate_operator.desired.outcome import Desired
from putgate_operator.errors import Conflict, Gone, Hindered, NotLeader, OperatorError
from putgate_operator.kinds import UPLOAD_BUCKET
from putgate_operator.metrics import Metrics
from putgate_operator.observe import Observer, askable
from putgate_operator.observed import Observed, dig
from putgate_operator.pod_reports import PodReports
from putgate_operator.pods import Trouble
from putgate_operator.queue import WorkQueue
from putgate_operator.reconcile import reconcile
from putgate_operator.resources import InvalidUploadBucket, UploadBucket
from putgate_operator.seen import Place, Raw, Seen, wish
from putgate_operator.status import events, hindered
from putgate_operator.sweeps import Sweeps
from putgate_operator.unreadable import unreadable

GRACE = 20.0
"""Seconds for what is in work when the operator is asked to stop."""

log = structlog.get_logger("putgate.operator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    seen: Seen
    queue: WorkQueue[Place]
    observer: Observer
    applier: Applier
    reports: PodReports
    metrics: Metrics
    sweeps: Sweeps
    workers: int

    async def lead(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then finish what is in work. Cancelled, it leaves things as they are: any later leader
        goes on from there.
        """
        await self.sweeps.first(stop)
        if stop.is_set():
            return
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.queue.run(self._work, workers=self.workers)),
                group.create_task(self.reports.run()),
                group.create_task(self.sweeps.run()),
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
        try:
            bucket = UploadBucket.parse(raw)
        except InvalidUploadBucket as error:
            await self.applier.carry_out(raw, unreadable(raw, str(error), self.observer.now()))
            raise
        self.reports.want(place, askable(self.seen, place, bucket.uid, ready=_is_ready(raw)))
        # From here to `granted` nothing waits: two workers must not give the last slot to two Deployments.
        observed = self.observer.observe(bucket, self.reports.of(place))
        desired = reconcile(observed)
        rolls = any(manifest["kind"] == "Deployment" for manifest in desired.apply)
        if rolls:
            self.observer.granted.add(place)
        try:
            await self.applier.carry_out(raw, desired)
        except Hindered as error:
            await self._tell_hindered(raw, observed, desired, error)
            if error.again is None:
                raise
            return error.again
        finally:
            self.observer.granted.discard(place)
        if desired.abandoned is not None:
            self.metrics.abandoned.inc()
            log.error("a bucket is kept", namespace=place[0], name=place[1], reason=desired.abandoned)
        # What was applied tells of itself only if it has changed; and a new wish may have been shown by the answer
        # to our own status write, so that its event was none.
        new = self.seen.get(UPLOAD_BUCKET, *place)
        moved = new is not None and wish(new) != wish(raw)
        return 0.0 if desired.apply or moved else desired.requeue_after

    async def _tell_hindered(self, raw: Raw, observed: Observed, desired: Desired, error: Hindered) -> None:
        why = Trouble(reason=error.reason, message=error.message, user_error=error.user_error)
        bucket = observed.bucket
        after = hindered(bucket, desired.status, observed.now, why)
        if error.again is None:
            # The step of a key rotation goes with the Deployment, which was not written.
            after = without_empty({**after, "uploadKeys": bucket.status.get("uploadKeys")})
        await self.applier.tell(raw, after, events(bucket.status, after))


def _is_ready(raw: dict[str, object]) -> bool:
    conditions = dig(raw, "status", "conditions", default=())
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
