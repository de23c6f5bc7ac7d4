"""Composition: settings become stores, records, routes and two listening ports. Nothing is decided here."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from putgate_api.auth.api_server import ApiServer
from putgate_api.auth.authenticate import Authenticator, Either, Nobody, NoTokens
from putgate_api.auth.keys import Keys
from putgate_api.auth.rules import RulesWatch
from putgate_api.auth.service_accounts import ServiceAccounts
from putgate_api.auth.token_file import TokenFile
from putgate_api.backend import Reached, bucket, opened_store, probe_over_http
from putgate_api.housekeeping.janitor import Janitor
from putgate_api.key_folder import KeyFolder
from putgate_api.metrics import Metrics
from putgate_api.port import api_port, listen_on
from putgate_api.prepare.keeper import Keeper
from putgate_api.prepare.status import Status
from putgate_api.prepare.steps import Means, Prepared
from putgate_api.rates import Rates
from putgate_api.reloading import Reloading, Unreadable
from putgate_api.report import LoadedKeys, Reporter
from putgate_api.routes.admin import admin_app
from putgate_api.routes.contract import add_contract_routes
from putgate_api.routes.cors import add_cors
from putgate_api.routes.files import add_file_routes
from putgate_api.routes.http import observing
from putgate_api.routes.objects import add_object_routes
from putgate_api.routes.serving import Serving
from putgate_api.routes.shedding import shedding
from putgate_api.tracing import export, tracing
from putgate_api.upload_id import Sealer, parse_upload_keys
from putgate_protocol.messages.batch import MAX_BODY_BYTES
from putgate_protocol.settings.api import ApiSettings
from putgate_protocol.settings.api import ServiceAccounts as ServiceAccountSettings
from putgate_protocol.settings.load import SettingsError
from putgate_storage.store import Store

log = structlog.get_logger("putgate.api")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where a server listens, once it does."""

    url: str
    admin_url: str


def authenticator(
    settings: ApiSettings, *, insecure: bool, keys_read: Callable[[], None] = lambda: None
) -> Authenticator:
    """`keys_read` is told when the cluster's token keys were read. Raises `SettingsError` where nobody, or everybody,
    could call.
    """
    if insecure:
        if not _is_loopback(settings.listen.host):
            raise SettingsError("--insecure-no-auth listens on a loopback address only; set listen.host to 127.0.0.1")
        return Nobody()
    auth = settings.auth
    tokens = _token_file(auth.token_file) if auth.token_file else None
    if auth.service_accounts is None or auth.rules_file is None:
        if tokens is None and settings.identity is not None:
            return NoTokens()
        if tokens is None:
            raise SettingsError(
                "auth.token_file is not set, nor is auth.service_accounts, so nobody could call; see docs/wire.md on "
                "tokens"
            )
        return tokens
    accounts = _service_accounts(auth.service_accounts, auth.rules_file, keys_read)
    return accounts if tokens is None else Either(accounts=accounts, tokens=tokens)


def _token_file(path: Path) -> TokenFile:
    tokens = TokenFile(path)
    try:
        tokens.check()
    except Unreadable as error:
        raise SettingsError(str(error)) from None
    return tokens


def _service_accounts(
    settings: ServiceAccountSettings, rules_file: Path, keys_read: Callable[[], None]
) -> ServiceAccounts:
    """Nothing is read yet: in a cluster the files may come later, and what is missing is in the report."""
    api_server = ApiServer(url=settings.api_server, token_file=settings.token_file, ca_file=settings.ca_file)
    return ServiceAccounts(
        keys=Keys(api_server.published, learnt=keys_read),
        rules=RulesWatch(rules_file),
        audience=settings.audience,
        max_lifetime=settings.max_lifetime,
    )


async def serve(settings: ApiSettings, *, insecure: bool) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises `SettingsError`, and outside a cluster what `Keeper` raises."""
    sealer, metrics, status = _sealer(settings), Metrics(), Status()
    who = authenticator(settings, insecure=insecure, keys_read=metrics.token_keys_read)
    serving = Serving(who, status, lambda: loaded_keys(sealer).missing)
    reporter = Reporter(
        settings=settings,
        status=status,
        authenticator=who,
        keys=lambda: loaded_keys(sealer),
        port_closed=lambda: serving.closed_port,
        environment=os.environ,
        version=version("putgate"),
    )
    last_spans = export()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as work, _listening(settings, serving, metrics, reporter) as ports:
        log.info("listening", url=ports.url, admin_url=ports.admin_url)
        if insecure:
            log.warning("everybody who reaches this address may do everything: --insecure-no-auth")

        reached: Reached | None = None

        def now_serve(store: Store, prepared: Prepared) -> None:
            url = settings.listen.public_url or ports.url
            nonlocal reached
            if reached is None or reached.opened is not store:
                reached = Reached(store, metrics, settings.limits)
            serving.prepared = bucket(
                settings,
                reached.store,
                prepared,
                sealer,
                url,
                locks=reached.locks,
                open_uploads=reached.open_uploads,
            )
            log.info("ready", tier=prepared.report.tier, closed=prepared.closed, findings=prepared.findings)

        def withdraw() -> None:
            serving.prepared = None

        keeper = _keeper(settings, status, now_serve, withdraw)
        # The calls still under way need the store, so the work ends after the ports.
        tasks = await work.enter_async_context(_background(keeper.run(), who.keep()))
        janitor = Janitor(settings, lambda: serving.prepared, metrics.cleaned_up)
        # Housekeeping ends first: what it holds is taken over by the next round, here or elsewhere.
        async with _background(janitor.run()) as cleaning:
            await _until(stop, [*tasks, *cleaning])
        serving.draining = True
        lame_duck = settings.listen.lame_duck.total_seconds()
        log.info("draining", lame_duck=lame_duck, seconds=settings.listen.drain.total_seconds())
        # Load balancers learn late; what they still send is taken.
        await asyncio.sleep(lame_duck)
    await asyncio.to_thread(last_spans)


def _keeper(
    settings: ApiSettings,
    status: Status,
    serve: Callable[[Store, Prepared], None],
    withdraw: Callable[[], None],
) -> Keeper:
    means = Means(
        settings=settings,
        probe=lambda store: probe_over_http(settings, store),
        random_hex=secrets.token_hex,
        program=version("putgate"),
    )
    return Keeper(means=means, opened=lambda: opened_store(settings), serve=serve, status=status, withdraw=withdraw)


async def _until(stop: asyncio.Event, work: Iterable[asyncio.Task[None]]) -> None:
    """Wait for `stop`. Work that ends meanwhile had nothing more to do; what it raises is raised here."""
    stopping = asyncio.create_task(stop.wait())
    running: set[asyncio.Task[Any]] = {stopping, *work}
    try:
        while not stopping.done():
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        stopping.cancel()


@asynccontextmanager
async def _background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Tasks that end with the block. Whoever waits for them raises what they raise."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _listening(
    settings: ApiSettings, serving: Serving, metrics: Metrics, reporter: Reporter
) -> AsyncIterator[Ports]:
    """Both ports; leaving stops listening and waits for the calls under way."""
    listen = settings.listen
    app = web.Application(
        client_max_size=MAX_BODY_BYTES, middlewares=[*tracing(), observing(metrics), shedding(settings.limits, metrics)]
    )
    serving.rates = Rates(settings.limits.requests_per_second, settings.limits.request_burst, metrics.turn_away)
    add_object_routes(app, serving, metrics)
    add_file_routes(app, serving, settings.download.disposition)
    add_contract_routes(app, listen.public_url)
    add_cors(app, settings.cors.allowed_origins)
    drain = listen.drain.total_seconds()
    # What is compressed is refused, and what is refused is read to its end: not what it would become.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=drain, handle_signals=False, auto_decompress=False)
    admin = web.AppRunner(admin_app(serving, metrics, reporter.report), access_log=None, shutdown_timeout=1)
    try:
        admin_url = await listen_on(admin, listen.admin_host, listen.admin_port)
        async with api_port(runner, listen, serving.port_closed) as url:
            yield Ports(url=url, admin_url=admin_url)
    finally:
        await runner.cleanup()
        await admin.cleanup()


def _sealer(settings: ApiSettings) -> Sealer:
    wanted = settings.upload_keys
    if wanted.folder is not None and wanted.signing is not None:
        return Sealer(KeyFolder(wanted.folder, signing=wanted.signing, accepted=wanted.accepted).current)
    assert wanted.file is not None  # as the settings have checked
    keys = Reloading(wanted.file, parse_upload_keys)
    try:
        keys.current()
    except Unreadable as error:
        raise SettingsError(f"upload_keys.file: {error}") from None
    return Sealer(keys.current)


def loaded_keys(sealer: Sealer) -> LoadedKeys:
    """Which upload keys are there now, for the report."""
    try:
        keys = sealer.present_keys()
    except Unreadable as error:
        return LoadedKeys(ids=(), missing=str(error))
    missing = "; ".join(keys.missing.values())
    return LoadedKeys(ids=sorted(keys.accepted), missing=f"upload keys are missing: {missing}" if missing else None)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
