"""Rounds of housekeeping: one, or one after the other for as long as the process serves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from putgate_api.housekeeping.pace import paced
from putgate_api.housekeeping.records import Memory, SessionFolder
from putgate_api.housekeeping.strays import clear_probe, drop_strays
from putgate_api.housekeeping.tally import Tally
from putgate_api.records.copies import CopyRecords
from putgate_api.records.index import IndexRecords
from putgate_api.records.keys import RecordKeys
from putgate_api.records.parts import PartRecords
from putgate_api.uploads.bucket import Bucket
from putgate_protocol.settings.api import ApiSettings
from putgate_storage.errors import StoreError

log = structlog.get_logger("putgate.housekeeping")


class Janitor:
    """`served`: the bucket as it is served now, None while it is being prepared. `told`: what each round did.
    `chance`: in [0, 1), for the jitter that keeps replicas apart.
    """

    def __init__(
        self,
        settings: ApiSettings,
        served: Callable[[], Bucket | None],
        told: Callable[[Mapping[str, int]], None] = lambda _: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings.janitor
        self._may_drop_strays = settings.storage.management != "Observe"
        self._served = served
        self._told = told
        self._chance = chance
        self._memory = Memory()

    async def run(self) -> None:
        """Until cancelled, which may happen at any moment; or at once where it is switched off."""
        if not self._settings.enabled:
            return
        period = self._settings.period.total_seconds()
        wait = period * self._chance()
        while True:
            await asyncio.sleep(wait)
            wait = period * (0.5 + self._chance())
            if (bucket := self._served()) is not None:
                await self._try(bucket)

    async def _try(self, bucket: Bucket) -> None:
        tally = Tally()
        try:
            await self.round(bucket, tally)
        except StoreError as error:
            log.warning("housekeeping ends early", reason=str(error), code=error.code)
        if tally.changed:
            log.info("housekeeping", **tally.changed)
        self._told(tally.changed)

    async def round(self, bucket: Bucket, tally: Tally) -> None:
        """Raises `StoreError` where the store does not let us go on; what is done is in the tally."""
        slow = _slowly(bucket, self._settings.calls_per_second)
        await SessionFolder(slow, tally, self._memory).tidy()
        await drop_strays(slow, tally, may_drop=self._may_drop_strays)
        await clear_probe(slow, tally)


def _slowly(bucket: Bucket, calls_per_second: float) -> Bucket:
    """The same bucket, with its locks, but a store that is called at this rate."""
    store = paced(bucket.store, calls_per_second)
    keys = RecordKeys(bucket.prefix)
    return replace(
        bucket,
        store=store,
        sessions=bucket.sessions.through(store),
        parts=PartRecords(store, keys),
        copies=CopyRecords(store, keys),
        index=IndexRecords(store, keys),
    )
