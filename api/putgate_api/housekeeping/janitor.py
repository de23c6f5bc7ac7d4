"""Rounds of housekeeping: one, or one after the other for as long as the process serves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace

import structlog

from putgate_api.housekeeping.pace import paced
from putgate_api.housekeeping.records import Memory, SessionFolder
from putgate_api.housekeeping.strays import clear_probe, drop_strays
from putgate_api.housekeeping.tally import Tally
from putgate_api.prepare.steps import ensure_expiry
from putgate_api.records.copies import CopyRecords
from putgate_api.records.index import IndexRecords
from putgate_api.records.keys import RecordKeys
from putgate_api.records.parts import PartRecords
from putgate_api.uploads.bucket import Bucket
from putgate_protocol.settings.api import ApiSettings
from putgate_storage.errors import StoreError
from putgate_storage.store import Store

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
        self._settings = settings
        self._served = served
        self._told = told
        self._chance = chance
        self._memory = Memory()

    async def run(self) -> None:
        """Until cancelled, which may happen at any moment; or at once where it is switched off."""
        if not self._settings.janitor.enabled:
            return
        period = self._settings.janitor.period.total_seconds()
        wait = period * self._chance()
        while True:
            await asyncio.sleep(wait)
            wait = period * (0.5 + self._chance())
            if (bucket := self._served()) is not None:
                await self._try(bucket)

    async def _try(self, bucket: Bucket) -> None:
        tally = Tally()
        with suppress(StoreError):
            await self.round(bucket, tally)
        if tally.changed:
            log.info("housekeeping", **tally.changed)
        self._told(tally.changed)

    async def round(self, bucket: Bucket, tally: Tally) -> None:
        """Each step, also after one that failed. Raises the first's `StoreError` then; what is done is in the tally."""
        slow = _slowly(bucket, self._settings.janitor.calls_per_second)
        steps: dict[str, Callable[[], Awaitable[None]]] = {
            "sessions": SessionFolder(slow, tally, self._memory).tidy,
            "strays": lambda: drop_strays(slow, tally, may_drop=lambda: self._rule_stands(slow.store)),
            "probe": lambda: clear_probe(slow, tally),
        }
        failed: StoreError | None = None
        for name, step in steps.items():
            try:
                await step()
            except StoreError as error:
                log.warning("housekeeping ends early", step=name, reason=str(error), code=error.code)
                failed = failed or error
        if failed is not None:
            raise failed

    async def _rule_stands(self, store: Store) -> bool:
        """Whether the store's clean-up rule is there at this moment. It may have been refused, or removed since."""
        if self._settings.storage.management == "Observe":
            return False
        try:
            await ensure_expiry(store, self._settings)
        except StoreError as error:
            log.info("without the store's clean-up rule no stray goes", reason=str(error), code=error.code)
            return False
        return True


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
