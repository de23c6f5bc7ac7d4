"""Traces: one from the client's call to the store's, without secrets; and nothing where nobody asked for any."""

from __future__ import annotations

import subprocess
import sys

import aiohttp
import pytest
from aiohttp import web
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from putgate.options import Options
from putgate.wire import Wire
from putgate_api.tracing import traced, tracing, wanted
from putgate_protocol.names import Name
from putgate_protocol.problems import NotFound
from putgate_storage.memory import MemoryStore


async def test_one_trace_leads_from_the_client_to_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "putgate")
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    store = traced(MemoryStore())

    async def head(request: web.Request) -> web.Response:
        await store.head("secret-name")
        return web.Response(status=404)

    app = web.Application(middlewares=tracing())
    app.router.add_get("/files/{name}", head, name="file")
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as http:
        wire = Wire(http, f"http://127.0.0.1:{runner.addresses[0][1]}", "secret-token", Options())
        with pytest.raises(NotFound):
            await wire.locate(Name(b"secret-name"))
    await runner.cleanup()
    store_span, call, client = exporter.get_finished_spans()
    assert [span.name for span in (client, call, store_span)] == ["GET /files", "file", "store head"]
    assert client.context is not None
    assert call.context is not None
    assert call.parent is not None
    assert store_span.parent is not None
    assert call.parent.span_id == client.context.span_id
    assert store_span.parent.span_id == call.context.span_id
    assert store_span.parent.trace_id == client.context.trace_id
    shown = "".join(span.to_json() for span in (client, call, store_span))
    assert "secret" not in shown
    assert "http://" not in shown


def test_nothing_is_loaded_where_nobody_asked() -> None:
    source = "import sys, putgate, putgate_api.app; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin"}
    ran = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    assert not wanted({})
    assert not wanted({"OTEL_SERVICE_NAME": "x", "OTEL_SDK_DISABLED": "true"})
    assert wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
