"""What the operator shows to Prometheus. Label sets are bounded: kinds, verbs, codes, never names."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One per process, with its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reconciles = Histogram(
            "putgate_operator_reconcile_seconds",
            "Time of one look at an UploadBucket with its writes, by outcome (ok, or an error's code)",
            ("outcome",),
            buckets=_LATENCIES,
            registry=self.registry,
        )
        self._requests = Counter(
            "putgate_operator_api_requests",
            "Requests to the API server, by verb, kind and HTTP status (0: no answer)",
            ("verb", "kind", "status"),
            registry=self.registry,
        )
        self.abandoned = Counter(
            "putgate_operator_abandoned_buckets",
            "Buckets that should have been removed with their UploadBucket and were kept",
            registry=self.registry,
        )
        self.loop_lag = Gauge(
            "putgate_operator_loop_lag_seconds", "How late the event loop last ran a timer", registry=self.registry
        )

    def follow(
        self,
        *,
        depth: Callable[[], float],
        oldest: Callable[[], float],
        event_age: Callable[[], float],
        leading: Callable[[], float],
    ) -> None:
        """Gauges that are read when they are asked for."""
        for name, text, value in (
            ("queue_depth", "UploadBuckets that wait for a worker or have one", depth),
            ("queue_oldest_seconds", "How long the first of the queue has been due", oldest),
            ("last_watch_event_seconds", "Time since a watch last showed anything", event_age),
            ("leading", "1 while this process leads", leading),
        ):
            Gauge(f"putgate_operator_{name}", text, registry=self.registry).set_function(value)

    def reconciled(self, outcome: str, seconds: float) -> None:
        self._reconciles.labels(outcome).observe(seconds)

    def requested(self, verb: str, kind: str, status: int) -> None:
        self._requests.labels(verb, kind, str(status)).inc()
