"""`/healthz` and `/metrics`: what the daemon tells of itself while it runs.

A registry of its own, so that two daemons in one process (as in tests) do not count into each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from putgate_daemon.entries import shown
from putgate_daemon.folder import FolderSync
from putgate_daemon.transfer import Done, Missed, Outcome, Transfer, Vanished
from putgate_protocol.settings.daemon import Health

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000)


class Metrics:
    """What is counted. `count` takes outcomes; the rest is read from the folders when asked for."""

    def __init__(self, folders: Sequence[FolderSync], transfer: Transfer) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Live(folders, transfer))
        self._files = Counter("putgate_daemon_files_uploaded", "Files stored, by how", ["how"], registry=self.registry)
        self._sent = Counter("putgate_daemon_sent_bytes", "File bytes sent to the store", registry=self.registry)
        self._missed = Counter(
            "putgate_daemon_upload_failures", "Uploads that failed, by problem code", ["code"], registry=self.registry
        )
        self._seconds = Histogram(
            "putgate_daemon_upload_seconds", "From the engine to stored", buckets=SECONDS, registry=self.registry
        )

    def count(self, outcome: Outcome) -> None:
        match outcome:
            case Done():
                self._files.labels(outcome.how).inc()
                self._sent.inc(outcome.sent)
                self._seconds.observe(outcome.took)
            case Missed():
                self._missed.labels(outcome.code).inc()
            case Vanished():
                pass

    def text(self) -> bytes:
        return generate_latest(self.registry)


_Values = dict[str, tuple[str, Callable[[FolderSync], float]]]


class _Live(Collector):
    """Values that live elsewhere, read at each scrape."""

    def __init__(self, folders: Sequence[FolderSync], transfer: Transfer) -> None:
        self._folders = folders
        self._transfer = transfer

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "putgate_daemon_files_pending", "Files on their way to the store", self._transfer.pending
        )
        gauges: _Values = {
            "files_waiting": ("Files that settle", lambda f: f.waiting),
            "folder_watched": ("1 while changes are watched, 0 while only scans find them", lambda f: int(f.watched)),
            "folder_present": ("0 while the folder is missing", lambda f: int(f.state not in ("missing", "empty"))),
            "paths_blocked": ("Paths that the last scan could not look at", lambda f: len(f.blocked)),
            "scan_seconds": ("How long the last scan took", lambda f: f.counts.scan_seconds),
        }
        for name, (help_text, value) in gauges.items():
            gauge = GaugeMetricFamily(f"putgate_daemon_{name}", help_text, labels=["folder"])
            for folder in self._folders:
                gauge.add_metric([shown(folder.root)], value(folder))
            yield gauge
        counters: _Values = {
            "scans": ("Finished scans", lambda f: f.counts.scans),
            "hints": ("Changes that watching told of", lambda f: f.counts.hints),
            "watch_failures": ("How often watching ended", lambda f: f.counts.watch_failures),
            "files_found_by_scan_not_by_watch": ("Changes that watching missed", lambda f: f.counts.by_scan),
        }
        for name, (help_text, value) in counters.items():
            counter = CounterMetricFamily(f"putgate_daemon_{name}", help_text, labels=["folder"])
            for folder in self._folders:
                counter.add_metric([shown(folder.root)], value(folder))
            yield counter


@contextlib.asynccontextmanager
async def serve(settings: Health, folders: Sequence[FolderSync], metrics: Metrics) -> AsyncIterator[int | None]:
    """Serve while the context lasts; gives the port, None where nothing is to be served. Raises `OSError`."""
    if settings.port is None:
        yield None
        return
    app = web.Application()
    app.router.add_get("/healthz", lambda _: _health(folders))
    app.router.add_get("/metrics", lambda _: _metrics(metrics))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def _health(folders: Sequence[FolderSync]) -> web.Response:
    """That the loop answers is the health. A missing folder is told, not a reason to restart the daemon."""
    told = [{"path": shown(f.root), "state": f.state, "watched": f.watched, "waiting": f.waiting} for f in folders]
    return web.json_response({"status": "ok", "folders": told})


async def _metrics(metrics: Metrics) -> web.Response:
    return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
