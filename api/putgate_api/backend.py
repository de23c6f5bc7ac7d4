"""Composition of the store's side: the driver, its wrappers, the probe over HTTP, and the bucket that is served."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp

from putgate_api.metrics import Metrics
from putgate_api.prepare.probing import Grants
from putgate_api.prepare.steps import Prepared
from putgate_api.records.keys import RecordKeys
from putgate_api.records.parts import PartRecords
from putgate_api.records.sessions import Sessions
from putgate_api.remove import Removal, failed, remove_bucket
from putgate_api.upload_id import Sealer
from putgate_api.uploads.bucket import PUT_LIFE, Abilities, Bucket, Limits
from putgate_protocol.settings.api import ApiSettings
from putgate_storage.errors import StoreError
from putgate_storage.probe.report import ProbeReport
from putgate_storage.probe.run import probe
from putgate_storage.probe.sender import HttpSender
from putgate_storage.s3.driver import S3Store, open_store
from putgate_storage.s3.trust import trust
from putgate_storage.store import Store
from putgate_storage.wrap.limit import limited
from putgate_storage.wrap.meter import metered
from putgate_storage.wrap.retry import retrying

STORE_CONCURRENCY = 48
"""Store calls at once. Fewer leave a far store idle; more only queue in a near one."""


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


async def remove_store_bucket(settings: ApiSettings, *, wait: bool) -> Removal:
    """Remove the settings' bucket; a failure of the store is a result too. `wait`: out the URLs that may be about."""
    pause = min(PUT_LIFE, settings.upload.url_ttl) if wait else timedelta(0)
    try:
        async with opened_store(settings) as store:
            return await remove_bucket(retrying(limited(store, STORE_CONCURRENCY)), settings.storage, pause)
    except StoreError as error:
        return failed(error, settings.storage)


def wrapped(store: Store, metrics: Metrics) -> Store:
    """The store as the use cases see it: each attempt is limited and measured, and retried where that is safe."""
    return retrying(limited(metered(store, metrics.store_call), STORE_CONCURRENCY))


def bucket(settings: ApiSettings, store: Store, prepared: Prepared, sealer: Sealer, public_url: str) -> Bucket:
    keys = RecordKeys(settings.storage.prefix)
    grants = Grants.of(prepared.report)
    upload = settings.upload
    return Bucket(
        store=store,
        prefix=settings.storage.prefix,
        facts=prepared.facts,
        abilities=Abilities(
            commit_by_put=grants.commit_by_put,
            conditional_put=grants.conditional_put,
            conditional_complete=grants.conditional_complete,
            complete_takes_sha256=grants.complete_sha256,
        ),
        limits=Limits(
            max_object_size=upload.max_object_size,
            url_ttl=upload.url_ttl,
            download_ttl=settings.download.url_ttl,
            session_ttl=upload.session_ttl,
            abandon_after=timedelta(days=settings.storage.abort_incomplete_after_days),
            allowed_content_types=tuple(kind.lower() for kind in upload.allowed_content_types),
            instant_min_size=settings.instant_upload.min_size,
        ),
        sealer=sealer,
        sessions=Sessions(store, keys, conditional=grants.conditional_put),
        parts=PartRecords(store, keys),
        public_url=public_url.rstrip("/"),
        closed=prepared.closed,
    )
