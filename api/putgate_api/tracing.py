"""Traces: a span for each call, and one for each store call within it, where OpenTelemetry is installed (extra `otel`)
and asked for by its own environment (`OTEL_EXPORTER_OTLP_ENDPOINT` and its kin).

Without both nothing is imported. A span never holds a URL, a name, a token or an error's text.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from importlib.util import find_spec
from typing import TypeVar

from aiohttp import web
from aiohttp.typedefs import Middleware

from putgate_storage.errors import StoreError
from putgate_storage.store import Store
from putgate_storage.wrap.wrapped import Operation, wrap

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether spans are made."""
    asked = any(name.startswith("OTEL_") for name in environment)
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return asked and not disabled and find_spec("opentelemetry.sdk") is not None


def export() -> Callable[[], None]:
    """Send spans where the environment says; what to call at the end, so that the last ones are sent."""
    if not wanted():
        return lambda: None
    from opentelemetry import trace  # noqa: PLC0415 - an extra
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    name = os.environ.get("OTEL_SERVICE_NAME", "putgate-api")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def tracing() -> list[Middleware]:
    """A middleware that makes a span of each call, as part of the caller's trace; it belongs outside all others."""
    if not wanted():
        return []
    from opentelemetry import propagate, trace  # noqa: PLC0415 - an extra

    tracer = trace.get_tracer("putgate_api")

    @web.middleware
    async def traced_call(request: web.Request, handler: Handler) -> web.StreamResponse:
        with tracer.start_as_current_span(
            request.match_info.route.name or "unknown",
            context=propagate.extract(request.headers),
            kind=trace.SpanKind.SERVER,
            attributes={"http.request.method": request.method},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            response = await handler(request)
            span.set_attribute("http.response.status_code", response.status)
            return response

    return [traced_call]


def traced(inner: Store) -> Store:
    """`inner`, each of whose calls has a span."""
    return wrap(inner, _Spans()) if wanted() else inner


class _Spans:
    async def __call__(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        from opentelemetry import trace  # noqa: PLC0415 - an extra

        with trace.get_tracer("putgate_api").start_as_current_span(
            f"store {operation.name}",
            kind=trace.SpanKind.CLIENT,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return await call()
            except StoreError as error:
                span.set_status(trace.StatusCode.ERROR)
                span.set_attribute("error.type", error.code)
                raise
