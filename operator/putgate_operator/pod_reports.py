"""Asks API pods for their reports, in the background: a pod that does not answer delays nobody.

A report is a pod's word and no more: it is fetched without redirects or proxies, bounded in time and size, and read
strictly. What it means is judged in `reports`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import aiohttp
import structlog
from pydantic import ValidationError

from putgate_operator.observed import Unreachable
from putgate_operator.queue import WorkQueue
from putgate_operator.seen import Place
from putgate_protocol.report import MAX_REPORT_BYTES, Report

TIMEOUT = 2.0
"""Seconds for one report. It is made without asking the store, so a slower pod is an ill one."""

ADMIN_PORT = 8081
EAGER = 2.0
LEAST_EAGER = 15.0
CALM = 60.0
"""Seconds between two questions to one pod: while its UploadBucket is not ready or it gives no report (growing from the
first to the second), and afterwards."""

ASKING = 32
"""Questions at once."""

log = structlog.get_logger("putgate.operator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A pod to ask. `eager`: its UploadBucket is not ready."""

    uid: str
    ip: str
    eager: bool


class PodReports:
    """`want` says whom to ask from now on; `tell` hears of UploadBuckets with a report that has changed."""

    def __init__(self, http: aiohttp.ClientSession, tell: Callable[[Place], None]) -> None:
        self._http = http
        self._tell = tell
        self._queue: WorkQueue[tuple[Place, str]] = WorkQueue()
        self._wanted: dict[Place, dict[str, Asked]] = {}
        self._found: dict[str, Report | Unreachable] = {}
        self._delays: dict[str, float] = {}

    def want(self, place: Place, pods: Iterable[Asked]) -> None:
        """These pods of an UploadBucket, and no others."""
        before = self._wanted.pop(place, {})
        now = {pod.uid: pod for pod in pods}
        if now:
            self._wanted[place] = now
        for uid in before.keys() - now.keys():
            self._queue.forget((place, uid))
            self._found.pop(uid, None)
            self._delays.pop(uid, None)
        for uid, pod in now.items():
            known = before.get(uid)
            if known is None or known.ip != pod.ip or (pod.eager and not known.eager):
                self._delays.pop(uid, None)
                self._queue.add((place, uid))

    def of(self, place: Place) -> Mapping[str, Report | Unreachable]:
        """By pod uid; who has not been asked yet is absent."""
        return {uid: self._found[uid] for uid in self._wanted.get(place, ()) if uid in self._found}

    async def run(self) -> None:
        """Until cancelled. Started again, by a leader that comes back, it asks everybody anew."""
        for place, pods in self._wanted.items():
            for uid in pods:
                self._queue.add((place, uid))
        await self._queue.run(self._ask, workers=ASKING)

    async def _ask(self, key: tuple[Place, str]) -> float | None:
        try:
            return await self._asked(*key)
        except Exception:
            log.exception("a pod could not be asked", namespace=key[0][0], name=key[0][1], pod=key[1])
            raise

    async def _asked(self, place: Place, uid: str) -> float | None:
        pod = self._wanted.get(place, {}).get(uid)
        if pod is None:
            return None
        found = await self._fetch(pod.ip)
        current = self._wanted.get(place, {}).get(uid)
        if current is None:
            return None
        if self._found.get(uid) != found:
            self._found[uid] = found
            self._tell(place)
        if isinstance(found, Report) and not current.eager:
            return CALM
        delay = self._delays.get(uid, EAGER)
        self._delays[uid] = min(LEAST_EAGER, delay * 1.5)
        return delay

    async def _fetch(self, ip: str) -> Report | Unreachable:
        host = f"[{ip}]" if ":" in ip else ip
        try:
            async with (
                asyncio.timeout(TIMEOUT),
                self._http.get(f"http://{host}:{ADMIN_PORT}/report", allow_redirects=False) as answer,
            ):
                if answer.status != 200:
                    return Unreachable(why=f"it answered HTTP {answer.status}")
                body = await _bounded(answer.content)
        except TimeoutError:
            return Unreachable(why=f"it did not answer within {TIMEOUT:g} s")
        except aiohttp.ClientError as error:
            return Unreachable(why=f"it cannot be reached ({type(error).__name__})")
        if body is None:
            return Unreachable(why="its report is too large")
        try:
            return Report.model_validate_json(body)
        except ValidationError:
            return Unreachable(why="its report cannot be read; it may run another version")


async def _bounded(content: aiohttp.StreamReader) -> bytes | None:
    """The whole body, None when it is larger than a report may be."""
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) > MAX_REPORT_BYTES:
            return None
    return bytes(body)
