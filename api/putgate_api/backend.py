"""Composition of the store's side: the driver, its wrappers, the probe over HTTP, and the bucket that is served."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version

import aiohttp

from putgate_api.fsck.content import HttpReader
from putgate_api.fsck.files import Files
from putgate_api.fsck.finding import Checker, Finding, Looked
from putgate_api.fsck.hints import Hints
from putgate_api.fsck.sessions import SessionRecords
from putgate_api.housekeeping.janitor import Janitor
from putgate_api.housekeeping.once import prepared_to_clean
from putgate_api.housekeeping.tally import Tally
from putgate_api.metrics import Metrics
from putgate_api.prepare.probing import Grants
from putgate_api.prepare.steps import Means, Prepared
from putgate_api.records.copies import CopyRecords
from putgate_api.records.index import IndexRecords
from putgate_api.records.keys import RecordKeys
from putgate_api.records.parts import PartRecords
from putgate_api.records.sessions import Locks, Sessions
from putgate_api.reloading import Unreadable
from putgate_api.remove import Removal, failed, remove_bucket
from putgate_api.tracing import traced
from putgate_api.upload_id import Sealer, UploadKeys
from putgate_api.uploads.bucket import PUT_LIFE, Abilities, Bucket, Limits
from putgate_api.uploads.open_uploads import OpenUploads
from putgate_protocol.settings.api import ApiSettings
from putgate_protocol.settings.api import Limits as CallLimits
from putgate_storage.errors import StoreError
from putgate_storage.probe.report import ProbeReport
from putgate_storage.probe.run import probe
from putgate_storage.probe.sender import HttpSender
from putgate_storage.s3.driver import S3Store, open_store
from putgate_storage.s3.trust import trust
from putgate_storage.store import Store
from putgate_storage.wrap.deadline import deadlined
from putgate_storage.wrap.limit import limited
from putgate_storage.wrap.meter import metered
from putgate_storage.wrap.retry import retrying


@asynccontextmanager
async def opened_store(settings: ApiSettings) -> AsyncIterator[S3Store]:
    """Raises `StoreError`."""
    store = await open_store(settings.storage.s3)
    try:
        yield store
    finally:
        await store.aclose()


async def probe_over_http(settings: ApiSettings, store: Store) -> ProbeReport:
    """What `store` enforces, seen just now by requests like any client's. Raises `StoreError`."""
    connector = aiohttp.TCPConnector(ssl=trust(settings.storage.s3.ca_bundle))
    async with aiohttp.ClientSession(connector=connector) as http:
        return await probe(store, settings.storage.prefix, HttpSender(http))


async def probe_store(settings: ApiSettings) -> ProbeReport:
    """What the settings' store enforces, seen just now. Raises `StoreError`."""
    async with opened_store(settings) as store:
        return await probe_over_http(settings, store)


async def remove_store_bucket(settings: ApiSettings, *, wait: bool, claim: str | None) -> Removal:
    """Remove the settings' bucket; a failure of the store is a result too. `wait`: out the URLs that may be about.
    `claim`: by which the caller knows the bucket, see `remove_bucket`.
    """
    pause = min(PUT_LIFE, settings.upload.url_ttl) if wait else timedelta(0)
    try:
        async with opened_store(settings) as store:
            kept = retrying(bounded(store, settings.limits))
            return await remove_bucket(kept, settings.storage, pause, known=claim)
    except StoreError as error:
        return failed(error, settings.storage)


async def clean_store(settings: ApiSettings, tally: Tally) -> None:
    """One round of housekeeping. Raises `BucketInUse`, `BucketDisagrees`, `Unfit`, `StoreError`."""
    async with opened_store(settings) as opened:
        store = retrying(bounded(opened, settings.limits))
        means = Means(
            settings=settings,
            probe=lambda probed: probe_over_http(settings, probed),
            random_hex=secrets.token_hex,
            program=version("putgate"),
        )
        prepared = await prepared_to_clean(store, means)
        if prepared is not None:
            served = bucket(settings, store, prepared, Sealer(_no_keys), public_url="")
            await Janitor(settings, lambda: served).round(served, tally)


async def check_store(
    settings: ApiSettings, looked: Looked, found: Callable[[Finding], None], *, rehash: bool, repair: bool = False
) -> None:
    """Tell `found` of each thing that is not as it should be. `repair`: remove hints that lead nowhere. Raises
    `StoreError`.
    """
    prefix = settings.storage.prefix
    connector = aiohttp.TCPConnector(ssl=trust(settings.storage.s3.ca_bundle))
    async with opened_store(settings) as opened, aiohttp.ClientSession(connector=connector) as http:
        store = retrying(bounded(opened, settings.limits))
        reader = HttpReader(store, http) if rehash else None
        checkers: list[Checker] = [
            Files(store, prefix, reader),
            SessionRecords(store, prefix),
            Hints(store, prefix, repair=repair),
        ]
        for checker in checkers:
            async for finding in checker.check(looked):
                looked.findings += 1
                found(finding)


def _no_keys() -> UploadKeys:
    raise Unreadable("housekeeping seals nothing")


def bounded(store: Store, limits: CallLimits) -> Store:
    """`store` with at most so many calls at once, each of which ends in time."""
    return limited(deadlined(store, limits.store_timeout.total_seconds()), limits.store_calls)


class Reached:
    """An opened store as the use cases see it: each attempt is limited and measured, and retried where that is safe.
    Made once, so that limit and `locks` hold for calls that began before the last probe too.
    """

    def __init__(self, opened: Store, metrics: Metrics, limits: CallLimits) -> None:
        self.opened = opened
        timely = deadlined(opened, limits.store_timeout.total_seconds())
        self.store = retrying(limited(metered(traced(timely), metrics.store_call), limits.store_calls))
        self.locks = Locks()
        self.open_uploads = OpenUploads(limits.open_uploads_per_owner)


def bucket(
    settings: ApiSettings,
    store: Store,
    prepared: Prepared,
    sealer: Sealer,
    public_url: str,
    *,
    locks: Locks | None = None,
    open_uploads: OpenUploads | None = None,
) -> Bucket:
    keys = RecordKeys(settings.storage.prefix)
    grants = Grants.of(prepared.report)
    upload = settings.upload
    return Bucket(
        store=store,
        prefix=settings.storage.prefix,
        facts=prepared.facts,
        abilities=Abilities(
            tier=prepared.report.tier,
            commit_by_put=grants.commit_by_put,
            conditional_put=grants.conditional_put,
            conditional_complete=grants.conditional_complete,
            complete_takes_sha256=grants.complete_sha256,
            part_copy=grants.part_copy,
            conditional_delete=grants.conditional_delete,
        ),
        limits=Limits(
            max_object_size=upload.max_object_size,
            url_ttl=upload.url_ttl,
            download_ttl=settings.download.url_ttl,
            session_ttl=upload.session_ttl,
            abandon_after=timedelta(days=settings.storage.abort_incomplete_after_days),
            allowed_content_types=tuple(kind.lower() for kind in upload.allowed_content_types),
            instant_min_size=settings.instant_upload.min_size,
            instant_scope=settings.instant_upload.scope,
        ),
        sealer=sealer,
        sessions=Sessions(store, keys, conditional=grants.conditional_put, locks=locks),
        parts=PartRecords(store, keys),
        copies=CopyRecords(store, keys),
        index=IndexRecords(store, keys),
        public_url=public_url.rstrip("/"),
        closed=prepared.closed,
        open_uploads=open_uploads,
    )
