"""A pod's program for tests of the stand-in: it tells what it sees and does what it is told, over HTTP.

Started by its path, with the port as its argument; it needs nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import urllib.request
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

ready = threading.Event()


class Puppet(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        status, answer = self._answer(url.path, query)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Quiet: its output is for what tests look for."""

    def _answer(self, path: str, query: dict[str, str]) -> tuple[int, object]:
        match path:
            case "/readyz":
                return (200, "ready") if ready.is_set() else (503, "not yet")
            case "/ready":
                ready.set()
            case "/unready":
                ready.clear()
            case "/who":
                return 200, {"pod": os.environ.get("POD_NAME"), "host": socket.gethostname(), "user": os.getuid()}
            case "/env":
                return 200, dict(os.environ)
            case "/stat":
                file = Path(query["path"])
                if not file.exists():
                    return 404, None
                mode = oct(file.stat().st_mode & 0o7777)
                text = file.read_text() if file.is_file() else sorted(each.name for each in file.iterdir())
                return 200, {"text": text, "mode": mode, "link": str(file.readlink()) if file.is_symlink() else None}
            case "/write":
                return self._write(Path(query["path"]), query["text"])
            case "/fetch":
                return self._fetch(query["url"])
            case "/exit":
                Path("/dev/termination-log").write_text(query.get("message", ""))
                os._exit(int(query["code"]))
            case _:
                return 404, None
        return 200, "done"

    def _write(self, path: Path, text: str) -> tuple[int, object]:
        try:
            path.write_text(text)
        except OSError as error:
            return 200, error.strerror
        return 200, "written"

    def _fetch(self, url: str) -> tuple[int, object]:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return 200, json.loads(answer.read())
        except (OSError, HTTPException) as error:
            # The other end may die in the middle of its answer.
            return 502, str(error)


def end(*_: object) -> None:
    sys.stderr.write("asked to end\n")
    sys.stderr.flush()
    if "STUBBORN" not in os.environ:
        os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    if "READY" in os.environ:
        ready.set()
    ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Puppet).serve_forever()
