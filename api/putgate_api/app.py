"""Composition: settings become stores, records, routes and two listening ports. Nothing is decided here."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address

import aiohttp
import structlog
from aiohttp import web

from putgate_api.auth.authenticate import Authenticator, Nobody
from putgate_api.auth.token_file import TokenFile
from putgate_api.metrics import Metrics
from putgate_api.prepare import Prepared, prepare
from putgate_api.records.keys import RecordKeys
from putgate_api.records.parts import PartRecords
from putgate_api.records.sessions import Sessions
from putgate_api.reloading import Reloading, Unreadable
from putgate_api.routes.admin import admin_app
from putgate_api.routes.files import add_file_routes
from putgate_api.routes.http import observing
from putgate_api.routes.objects import add_object_routes
from putgate_api.routes.serving import Serving
from putgate_api.upload_id import Sealer, parse_upload_keys
from putgate_api.uploads.bucket import Abilities, Bucket, Limits
from putgate_protocol.messages.batch import MAX_BODY_BYTES
from putgate_protocol.settings.api import ApiSettings
from putgate_protocol.settings.load import SettingsError
from putgate_storage.errors import StoreError
from putgate_storage.probe.report import ProbeReport
from putgate_storage.probe.run import probe
from putgate_storage.probe.sender import HttpSender
from putgate_storage.s3.driver import S3Store, open_store
from putgate_storage.store import Store
from putgate_storage.wrap.limit import limited
from putgate_storage.wrap.meter import metered
from putgate_storage.wrap.retry import retrying

log = structlog.get_logger("putgate.api")

STORE_CONCURRENCY = 48
"""Store calls at once. Fewer leave a far store idle; more only queue in a near one."""

_FIRST_DELAY, _LAST_DELAY = 0.5, 30.0
"""Seconds between two attempts to prepare; doubled each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where a server listens, once it does."""

    url: str
    admin_url: str


@asynccontextmanager
async def opened_store(settings: ApiSettings) -> AsyncIterator[S3Store]:
    store = await open_store(settings.storage.s3)
    try:
        yield store
    finally:
        await store.aclose()


async def probe_store(settings: ApiSettings) -> ProbeReport:
    """What the settings' store enforces, seen just now. Raises `StoreError`."""
    async with opened_store(settings) as store, aiohttp.ClientSession() as http:
        return await probe(store, settings.storage.prefix, HttpSender(http))


def authenticator(settings: ApiSettings, *, insecure: bool) -> Authenticator:
    """Raises `SettingsError` where nobody, or everybody, could call."""
    if insecure:
        if not _is_loopback(settings.listen.host):
            raise SettingsError("--insecure-no-auth listens on a loopback address only; set listen.host to 127.0.0.1")
        return Nobody()
    if settings.auth.token_file is None:
        raise SettingsError("auth.token_file is not set, so nobody could call; see docs/wire.md on tokens")
    tokens = TokenFile(settings.auth.token_file)
    try:
        tokens.check()
    except Unreadable as error:
        raise SettingsError(str(error)) from None
    return tokens


async def serve(settings: ApiSettings, *, insecure: bool) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises `SettingsError`, `Unfit`, `BucketDisagrees`."""
    sealer = _sealer(settings)
    metrics = Metrics()
    serving = Serving(authenticator(settings, insecure=insecure))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with opened_store(settings) as store, _listening(settings, serving, metrics) as ports:
        log.info("listening", url=ports.url, admin_url=ports.admin_url)
        if insecure:
            log.warning("everybody who reaches this address may do everything: --insecure-no-auth")
        preparing = asyncio.create_task(_prepare(settings, store, serving))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({preparing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if preparing.done():
            # Raises what makes this store unfit; nothing else ends preparing but success.
            prepared = preparing.result()
            url = settings.listen.public_url or ports.url
            serving.prepared = bucket(settings, wrapped(store, metrics), prepared, sealer, url)
            log.info("ready", tier=prepared.report.tier, findings=prepared.findings)
            await stopping
        preparing.cancel()
        await asyncio.gather(preparing, return_exceptions=True)
        serving.draining = True
        log.info("draining", seconds=settings.listen.drain.total_seconds())


async def _prepare(settings: ApiSettings, store: S3Store, serving: Serving) -> Prepared:
    """Prepare the bucket, trying again for as long as it can heal."""
    delay = _FIRST_DELAY
    while True:
        try:
            async with aiohttp.ClientSession() as http:
                return await prepare(
                    store, settings, lambda: probe(store, settings.storage.prefix, HttpSender(http)), secrets.token_hex
                )
        except StoreError as error:
            serving.waiting_for = f"{error} ({error.code})"
            log.warning("not ready", reason=str(error), code=error.code, again_in=delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LAST_DELAY)


def wrapped(store: Store, metrics: Metrics) -> Store:
    """The store as the use cases see it: each attempt is limited and measured, and retried where that is safe."""
    return retrying(limited(metered(store, metrics.store_call), STORE_CONCURRENCY))


def bucket(settings: ApiSettings, store: Store, prepared: Prepared, sealer: Sealer, public_url: str) -> Bucket:
    keys = RecordKeys(settings.storage.prefix)
    report = prepared.report
    upload = settings.upload
    return Bucket(
        store=store,
        prefix=settings.storage.prefix,
        facts=prepared.facts,
        abilities=Abilities(
            commit_by_put=report.commit_by_put,
            conditional_put=report.conditional_put_absent and report.conditional_put_match,
            conditional_complete=report.conditional_complete,
            complete_takes_sha256=report.complete_sha256,
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
        sessions=Sessions(store, keys, conditional=report.conditional_put_absent and report.conditional_put_match),
        parts=PartRecords(store, keys),
        public_url=public_url.rstrip("/"),
    )


@asynccontextmanager
async def _listening(settings: ApiSettings, serving: Serving, metrics: Metrics) -> AsyncIterator[Ports]:
    """Both ports; leaving stops listening and waits for the calls under way."""
    listen = settings.listen
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[observing(metrics)])
    add_object_routes(app, serving, metrics)
    add_file_routes(app, serving, settings.download.disposition)
    drain = listen.drain.total_seconds()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=drain, handle_signals=False)
    admin = web.AppRunner(admin_app(serving, metrics), access_log=None, shutdown_timeout=1)
    try:
        url = await _listen(runner, listen.host, listen.port)
        yield Ports(url=url, admin_url=await _listen(admin, listen.admin_host, listen.admin_port))
    finally:
        await runner.cleanup()
        await admin.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> str:
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    bound = runner.addresses[0]
    shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    return f"http://{shown}:{bound[1]}"


def _sealer(settings: ApiSettings) -> Sealer:
    keys = Reloading(settings.upload_keys.file, parse_upload_keys)
    try:
        keys.current()
    except Unreadable as error:
        raise SettingsError(f"upload_keys.file: {error}") from None
    return Sealer(keys.current)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
