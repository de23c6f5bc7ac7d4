"""A real store behind a front that makes it odd, as some stores are: one ignores digests, one insists on its region.

Both forward to a SeaweedFS whatever they do not spoil, and both can be mended while they run.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.servers.proxy import StoreProxy, running
from tests.servers.proxy_calls import Call
from tests.servers.proxy_faults import Answer
from tests.servers.seaweedfs import SeaweedFS

DIGEST = "x-amz-checksum-sha256"
_WRONG_REGION = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization '
    "header is malformed; the region is wrong</Message><Region>{region}</Region></Error>"
)


@contextmanager
def in_region(store: SeaweedFS, region: str) -> Iterator[StoreProxy]:
    """The store, which says as S3 does that requests signed for any other region are signed wrong."""

    def elsewhere(call: Call) -> bool:
        signed = call.head.query.get("X-Amz-Credential") or call.head.headers["authorization"].partition("=")[2]
        return signed.split("/")[2] != region

    with running(store.endpoint) as proxy:
        # The answer to a HEAD has no body, so S3 cannot say more there.
        proxy.rule(lambda call: call.method == "HEAD" and elsewhere(call), Answer(status=400))
        proxy.rule(elsewhere, Answer(status=400, body=_WRONG_REGION.format(region=region).encode()))
        yield proxy


class CarelessStore:
    """`with CarelessStore(store) as front:` While it is `careless` it keeps bytes whose digest is another than the one
    that was signed, as a store does that does not look; `overlooked` counts them.
    """

    def __init__(self, store: SeaweedFS) -> None:
        self.careless = True
        self.overlooked = 0
        self._client = store.client()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, store.port))
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def port(self) -> int:
        return self._server.server_port

    def __enter__(self) -> CarelessStore:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._client.close()

    def overlooks(self, headers: Mapping[str, str], body: bytes) -> bool:
        md5 = hashlib.md5(body, usedforsecurity=False)
        digests = ((headers.get(DIGEST), hashlib.sha256(body)), (headers.get("content-md5"), md5))
        return self.careless and any(
            declared not in (None, base64.b64encode(found.digest()).decode()) for declared, found in digests
        )

    def keep(self, target: str, body: bytes) -> str:
        """Its ETag."""
        self.overlooked += 1
        url = urlsplit(target)
        bucket, _, key = unquote(url.path).removeprefix("/").partition("/")
        query = parse_qs(url.query)
        if "uploadId" in query:
            part = {"UploadId": query["uploadId"][0], "PartNumber": int(query["partNumber"][0])}
            return str(self._client.upload_part(Bucket=bucket, Key=key, Body=body, **part)["ETag"])
        return str(self._client.put_object(Bucket=bucket, Key=key, Body=body)["ETag"])


def _handler(front: CarelessStore, port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if self.command == "PUT" and front.overlooks(self.headers, body):
                self._answer(200, {"ETag": front.keep(self.path, body), "Content-Length": "0"}, b"")
            else:
                self._forward(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do  # noqa: N815  # http.server names methods so

        def _forward(self, body: bytes) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in {"connection", "expect"}:
                        connection.putheader(name, value)
                connection.endheaders(body)
                answer = connection.getresponse()
                data = answer.read()
            finally:
                connection.close()
            dropped = {"connection", "transfer-encoding", *([] if self.command == "HEAD" else ["content-length"])}
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in dropped}
            length = {} if self.command == "HEAD" or answer.status == 204 else {"Content-Length": str(len(data))}
            self._answer(answer.status, kept | length, data)

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            # A connection each: none is left open when the server ends.
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Quiet: its lines would hold signed URLs."""

    return Handler
