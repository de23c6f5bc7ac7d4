"""Prepares the bucket, trying again for as long as it can heal, and looks after the store from then on.

Nothing that happens later takes a served bucket away: an outage is the store's own to tell at each call, and a store
that enforces less than before is only kept from new uploads. Inside a cluster nothing ends the program either, since
a report says more than a restart; elsewhere what only people can mend ends it with a message.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from datetime import timedelta

import structlog

from putgate_api.prepare.configuring import configured, unconfigured
from putgate_api.prepare.probing import Grants, adoptable, effective, until_due
from putgate_api.prepare.status import Status
from putgate_api.prepare.steps import (
    Means,
    Prepared,
    bucket_facts,
    ensure_bucket,
    probed,
    probed_with,
    take_claim,
    unfit,
)
from putgate_api.prepare.trouble import Unfit, trouble_of
from putgate_api.records.bucket import BucketDisagrees
from putgate_api.records.claim import BucketInUse, in_use, read_claim
from putgate_api.records.probe import read_probe, write_probe
from putgate_storage.errors import Permanent, StoreError, Transient
from putgate_storage.probe.report import ProbeReport
from putgate_storage.store import HasCredentials, Store

log = structlog.get_logger("putgate.api")

_FIRST_DELAY, _LAST_DELAY = 0.5, 30.0
"""Seconds between two attempts to prepare; doubled each time."""

_MENDED_DELAY = 60.0
"""Seconds until what somebody has to change is looked at again. Each look at an unfit store is a probe."""

_FILES_DELAY = 1.0
"""Seconds until credential files that are missing are looked for again; that costs no call."""

_CLAIM_EVERY = 60.0
"""Seconds between two looks at the claim: how long a bucket that was taken over may have two who serve it."""

_LOOK_EVERY = 1.0
"""Seconds between two looks at the credentials: how soon new ones are used to try again."""

AGAIN = timedelta(minutes=10)
"""When a probe that had no answer, or a worse one, is repeated. Sooner, and one bad moment of a store counts twice;
later, and uploads go on longer into a store that no longer checks them.
"""

_MISSING_FILES = frozenset({"SecretMissing", "SecretKeyMissing", "CaBundleMissing", "CaBundleInvalid"})
"""What opening a store waits for: volumes that the kubelet fills later."""

FAILURES = (StoreError, Unfit, BucketDisagrees, BucketInUse)


class Keeper:
    """`opened`: the store, for as long as it is used. `serve`: told of the bucket to serve, and again when what holds
    of it changes. `withdraw`: told that it is somebody else's now. `chance`: in [0, 1), for the jitter.
    """

    def __init__(
        self,
        *,
        means: Means,
        opened: Callable[[], AbstractAsyncContextManager[Store]],
        serve: Callable[[Store, Prepared], None],
        status: Status,
        withdraw: Callable[[], None] = lambda: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._means = means
        self._opened = opened
        self._serve = serve
        self._status = status
        self._withdraw = withdraw
        self._chance = chance
        self._delay = _FIRST_DELAY
        self._created = False

    async def run(self) -> None:
        """Until cancelled. Outside a cluster it raises what somebody has to change: `Unfit`, `BucketDisagrees`,
        `BucketInUse`, and a `StoreError` of opening the store.
        """
        while True:
            async with AsyncExitStack() as resources:
                try:
                    store = await resources.enter_async_context(self._opened())
                except StoreError as error:
                    await asyncio.sleep(self._failed(error, opening=True))
                    continue
                mark = await self._mark(store)
                try:
                    prepared = await self._prepared(store)
                except FAILURES as error:
                    await self._changed(store, mark, self._failed(error))
                    continue
                self._now(store, prepared)
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._keep_configured(store))
                        group.create_task(self._keep_probed(store, prepared, mark))
                        group.create_task(self._keep_claimed(store, prepared))
                except* BucketInUse as taken:
                    self._withdraw()
                    await asyncio.sleep(self._failed(taken.exceptions[0]))

    # --- preparing ---

    async def _prepared(self, store: Store) -> Prepared:
        """Raises `FAILURES`."""
        means, status = self._means, self._status
        # Remembered, so that a failure right after the creation does not make the bucket somebody else's.
        self._created = await ensure_bucket(store, means) or self._created
        status.credentials_work()
        claim = await take_claim(store, means, created=self._created)
        status.bucket_is_ours(claim)
        report = await probed(store, means)
        status.integrity_is(report, None)
        if not Grants.of(report).conditional_put:
            # Nothing kept a second claimant from writing over the first; by now the last one shows.
            claim = await take_claim(store, means, created=False)
        facts = await bucket_facts(store, means, report)
        return Prepared(facts=facts, report=report, claim=claim)

    def _failed(self, error: Exception, *, opening: bool = False) -> float:
        """How many seconds to wait. Raises `error` again where it ends the program."""
        lasting = isinstance(error, (Unfit, BucketDisagrees, BucketInUse))
        if self._means.settings.identity is None and (lasting or opening):
            raise error
        found = trouble_of(error, self._means.settings.storage)
        self._status.failed(found)
        delay = self._delay_after(error, lasting=lasting)
        log.warning("not ready", reason=found.reason, message=found.message, again_in=delay)
        return delay

    def _delay_after(self, error: Exception, *, lasting: bool) -> float:
        if lasting:
            return _MENDED_DELAY
        if isinstance(error, StoreError) and error.code in _MISSING_FILES:
            return _FILES_DELAY
        delay, self._delay = self._delay, min(self._delay * 2, _LAST_DELAY)
        return delay

    def _now(self, store: Store, prepared: Prepared) -> None:
        """From here on this holds."""
        status = self._status
        status.prepared = prepared
        status.credentials_work()
        status.bucket_is_ours(prepared.claim)
        status.integrity_is(prepared.report, prepared.closed)
        self._serve(store, prepared)

    # --- looking after it ---

    async def _keep_configured(self, store: Store) -> None:
        """The bucket's own rules, tried until they stand; without them the API works as well."""
        settings = self._means.settings
        if settings.storage.management == "Observe":
            self._status.good("BucketConfigured", "Configured", "management is Observe: its settings are left alone")
            return
        while True:
            found = await unconfigured(store, settings)
            if found is None:
                self._status.good("BucketConfigured", "Configured", configured(settings.storage))
                return
            log.warning("bucket not configured", reason=found.reason, message=found.message)
            self._status.trouble(found)
            await asyncio.sleep(AGAIN.total_seconds())

    async def _keep_claimed(self, store: Store, prepared: Prepared) -> None:
        """Look whether the bucket is still ours; an outage says nothing. Raises `BucketInUse`."""
        claimant = self._means.settings.storage.claimant
        while claimant is not None and prepared.claim is not None:
            await asyncio.sleep(_CLAIM_EVERY)
            try:
                kept = await read_claim(store, self._means.keys)
            except (StoreError, BucketDisagrees) as error:
                log.warning("the claim cannot be read", reason=str(error))
                continue
            if kept is not None and not kept.claim.is_of(claimant):
                raise in_use(kept.claim)

    async def _keep_probed(self, store: Store, first: Prepared, mark: str | None) -> None:
        """Probe again each day and with new credentials. A worse result counts when it is seen twice."""
        held, doubted = first, False
        wait = until_due(held.report, store.now(), self._chance())
        while True:
            changed = await self._changed(store, mark, wait.total_seconds())
            mark = await self._mark(store)
            # What was seen with other credentials is no first sight of what is seen with these.
            doubted = doubted and not changed
            found = await self._look_again(store, held, changed=changed, adopt=not doubted and held.closed is None)
            if found is None:
                wait = AGAIN
                continue
            report = effective(found, held=held.report, first=first.report)
            grants = Grants.of(report)
            if grants.lost_since(Grants.of(held.report)) and not doubted:
                log.warning("the store seems to enforce less than before", findings=report.findings)
                doubted, wait = True, AGAIN
                continue
            doubted = False
            held = replace(held, report=report, closed=unfit(report, self._means.settings))
            self._now(store, held)
            log.info("probed again", tier=report.tier, closed=held.closed, findings=held.findings)
            await self._record(store, report)
            wait = AGAIN if held.closed is not None else until_due(report, store.now(), self._chance())

    async def _look_again(self, store: Store, held: Prepared, *, changed: bool, adopt: bool) -> ProbeReport | None:
        """Another's newer result, or one of our own; None where there is no answer, which changes nothing."""
        try:
            made_with = await probed_with(store, self._means)
            standing = await read_probe(store, self._means.keys, made_with) if adopt else None
            if (
                standing is not None
                and adoptable(standing, store.now())
                and (changed or standing.probed_at > held.report.probed_at)
            ):
                return standing
            report = await self._means.probe(store)
        except StoreError as error:
            log.warning("no answer to another probe", reason=str(error), code=error.code)
            if isinstance(error, Permanent):
                self._status.trouble(trouble_of(error, self._means.settings.storage))
            return None
        if not report.conclusive:
            log.warning("no answer to another probe", findings=report.findings)
            return None
        return report

    async def _record(self, store: Store, report: ProbeReport) -> None:
        """For other replicas; a worse result too, so that none adopts a better one."""
        try:
            made_with = await probed_with(store, self._means)
            standing = await read_probe(store, self._means.keys, made_with)
            if standing is None or standing.probed_at != report.probed_at:
                await write_probe(store, self._means.keys, made_with, report)
        except StoreError as error:
            log.warning("the probe's result cannot be written", reason=str(error), code=error.code)

    # --- waiting ---

    async def _changed(self, store: Store, mark: str | None, seconds: float) -> bool:
        """Wait; at most until the credentials are others than those of `mark`, and then True."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            await asyncio.sleep(min(left, _LOOK_EVERY) if isinstance(store, HasCredentials) else left)
            present = await self._mark(store)
            if mark is not None and present is not None and present != mark:
                self._delay = _FIRST_DELAY
                return True
        return False

    async def _mark(self, store: Store) -> str | None:
        if not isinstance(store, HasCredentials):
            return None
        try:
            return (await store.credential_mark()).value
        except (Permanent, Transient):
            return None
