"""Traces of the client's calls, where OpenTelemetry is installed (extra `otel`) and asked for by its own environment.

Without both nothing is imported. The application that uses the client sets up where spans go; this only makes them. A
span never holds a URL, a name, a token or an error's text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether spans are made."""
    asked = any(name.startswith("OTEL_") for name in environment)
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return asked and not disabled and find_spec("opentelemetry") is not None


@contextmanager
def call_span(method: str, path: str, headers: dict[str, str]) -> Iterator[None]:
    """A span around one call with all its tries; `headers` get its `traceparent`."""
    if not wanted():
        yield
        return
    from opentelemetry import propagate, trace  # noqa: PLC0415 - an extra

    place = "/files" if path.startswith("/files") else path.partition("?")[0]
    with trace.get_tracer("putgate").start_as_current_span(
        f"{method} {place}",
        kind=trace.SpanKind.CLIENT,
        attributes={"http.request.method": method},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        propagate.inject(headers)
        try:
            yield
        except Exception as error:
            span.set_status(trace.StatusCode.ERROR)
            span.set_attribute("error.type", getattr(error, "code", None) or type(error).__name__)
            raise
