"""What is seen of a call: its line in the log, found by the id in the caller's error, and its trace."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from putgate import Client
from putgate_protocol.problems import Problem
from tests.servers.api import ApiProcess
from tests.servers.seaweedfs import SeaweedFS


class Collector(ThreadingHTTPServer):
    """Takes what is exported over OTLP/HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Export)
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> list[Span]:
        return [
            span
            for body in self.bodies
            for of_service in ExportTraceServiceRequest.FromString(body).resource_spans
            for of_library in of_service.scope_spans
            for span in of_library.spans
        ]


class _Export(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as served:
        thread = Thread(target=served.serve_forever)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


async def test_traces_are_exported_and_hold_no_secret(
    collector: Collector, tmp_path: Path, seaweedfs: SeaweedFS, prefix: str
) -> None:
    api = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix)
    api.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}
    api.start_probed()
    try:
        async with Client(api.url, token=api.token) as client:
            await client.upload(secrets.token_bytes(1000), "confidential/report.txt")
    finally:
        assert api.stop() == 0  # sends the last ones
    spans = {span.name: span for span in collector.spans()}
    calls = {span.span_id for span in spans.values() if span.kind == Span.SPAN_KIND_SERVER}
    of_store = [span for span in spans.values() if span.name.startswith("store ") and span.parent_span_id in calls]
    assert of_store, sorted(spans)
    sent = b"".join(collector.bodies)
    for secret in (api.token.encode(), b"confidential", b"X-Amz-", seaweedfs.secret_key.encode()):
        assert secret not in sent


async def test_each_call_of_an_upload_has_its_line(api: ApiProcess) -> None:
    async with Client(api.url, token=api.token) as client:
        await client.upload(secrets.token_bytes(9 * 1024 * 1024), "large.bin")
    assert api.stop() == 0
    told = [line for line in logged(api) if line["event"] == "call" and line["call"] in ("initiate", "complete")]
    assert [(line["call"], line["name"], line["outcome"]) for line in told] == [
        ("initiate", "large.bin", "multipart"),
        ("complete", "large.bin", "complete"),
    ]


def logged(api: ApiProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in api.log.read_text().splitlines() if line.startswith("{")]


async def test_the_id_in_an_error_finds_the_call_in_the_log(api: ApiProcess) -> None:
    token = api.add_token(subject="reader", verbs=["download"])
    async with Client(api.url, token=token) as client:
        with pytest.raises(Problem) as refused:
            await client.upload(b"content", "theirs/file.txt")
    found = re.search(r"\(request ([0-9a-f]{32})\)", str(refused.value))
    assert found is not None
    # The call's line is written after its answer.
    assert api.stop() == 0
    (line,) = [each for each in logged(api) if each.get("request_id") == found[1] and each["event"] == "call"]
    assert line["caller"] == "reader"
    assert line["call"] == "initiate"
    assert line["code"] == "forbidden"
    assert line["store_calls"] == 0
    assert token not in api.log.read_text()
