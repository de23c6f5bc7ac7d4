"""What the admin port shows to Prometheus. Label sets are bounded: calls, codes and outcomes, never names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from putgate_api import call_log
from putgate_api.auth.audit import Refusal
from putgate_api.auth.authenticate import Unknown

_LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One per process, with its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Histogram(
            "putgate_api_call_seconds",
            "Time to answer a call, by call and problem code (`ok` for success)",
            ("call", "code"),
            buckets=_LATENCIES,
            registry=self.registry,
        )
        self.initiates = Counter(
            "putgate_api_initiates",
            "Files declared, by outcome: exists, copied, copying, put, multipart, resumed, or a problem's code",
            ("outcome",),
            registry=self.registry,
        )
        self.bytes_declared = Counter(
            "putgate_api_declared_bytes",
            "Bytes of files declared, by outcome; of exists, copied and copying none need be sent",
            ("outcome",),
            registry=self.registry,
        )
        self.store_calls = Histogram(
            "putgate_api_store_call_seconds",
            "Time of calls to the store, by operation and outcome (ok, absent, refused, transient, permanent)",
            ("operation", "outcome"),
            buckets=_LATENCIES,
            registry=self.registry,
        )
        self.denials = Counter(
            "putgate_api_denials",
            "Calls and items refused because of who sent them, by reason",
            ("reason",),
            registry=self.registry,
        )
        self.turned_away = Counter(
            "putgate_api_turned_away",
            "Calls put off before any work was done, by the limit they met: calls, bytes, rate",
            ("limit",),
            registry=self.registry,
        )
        self.in_progress = Gauge("putgate_api_calls_in_progress", "Calls at work now", registry=self.registry)
        self.bytes_in_progress = Gauge(
            "putgate_api_body_bytes_in_progress", "Bytes of the bodies of calls at work now", registry=self.registry
        )
        self.housekeeping = Counter(
            "putgate_api_housekeeping",
            "What housekeeping found in the background, by what it was",
            ("what",),
            registry=self.registry,
        )
        self.token_keys = Gauge(
            "putgate_api_token_keys_read_timestamp_seconds",
            "When the cluster's token signing keys were read last, in seconds since 1970; 0: never, or not needed",
            registry=self.registry,
        )
        self.ready = Gauge("putgate_api_ready", "1 when the bucket is prepared", registry=self.registry)

    def token_keys_read(self) -> None:
        self.token_keys.set_to_current_time()

    def call(self, call: str, code: str, seconds: float) -> None:
        self.calls.labels(call, code).observe(seconds)

    def denied(self, reason: Unknown | Refusal) -> None:
        self.denials.labels(reason).inc()

    def turn_away(self, limit: Literal["calls", "bytes", "rate"]) -> None:
        self.turned_away.labels(limit).inc()

    def at_work(self, calls: int, body_bytes: int) -> None:
        self.in_progress.set(calls)
        self.bytes_in_progress.set(body_bytes)

    def store_call(self, operation: str, outcome: str, seconds: float) -> None:
        """Called within the call that it is for, if any, whose line counts it too."""
        call_log.store_call()
        self.store_calls.labels(operation, outcome).observe(seconds)

    def cleaned_up(self, counts: Mapping[str, int]) -> None:
        for what, count in counts.items():
            self.housekeeping.labels(what).inc(count)

    def initiated(self, outcome: str, size: int) -> None:
        self.initiates.labels(outcome).inc()
        self.bytes_declared.labels(outcome).inc(size)
