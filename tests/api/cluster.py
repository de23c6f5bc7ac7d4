"""The part of a Kubernetes API server that publishes its ServiceAccount keys, over real HTTPS; and tokens it signs."""

from __future__ import annotations

import hashlib
import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from putgate_protocol.settings.rules import AccessRule, rules_hash
from tests.servers.certificates import Authority, swap

ISSUER = "https://issuer.test.invalid"
AUDIENCE = "putgate.io/apps/media"
OWN_TOKEN = "the-api-pods-own-token"

Key = RSAKey | ECKey


class Cluster:
    """`keys`: what it publishes. `refuse`: the status of every answer instead. `asked`: paths, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signing: Key = rsa_key("first")
        self.published: list[dict[str, Any]] = [self.signing.as_dict(private=False)]
        self.issuer = ISSUER
        self.refuse: int | None = None
        self.asked: list[str] = []
        self.authority = Authority("cluster")
        folder.mkdir(parents=True, exist_ok=True)
        self.own({"token": OWN_TOKEN.encode(), "ca.crt": self.authority.pem})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler(), bind_and_activate=False)
        self._server.daemon_threads = True
        certificate, key = self.authority.issue()
        (folder / "server.crt").write_bytes(certificate)
        (folder / "server.key").write_bytes(key)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(folder / "server.crt", folder / "server.key")
        self._server.server_bind()
        self.url = f"https://localhost:{self._server.server_address[1]}"

    def own(self, files: dict[str, bytes]) -> None:
        """The API pod's own token and CA."""
        swap(self.folder / "own", files)

    def start(self) -> Self:
        self._server.server_activate()
        self._server.socket = self._context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def close(self) -> None:
        """Where it was never started."""
        self._server.server_close()

    def settings(self) -> dict[str, Any]:
        """`auth` of an API in this cluster."""
        return {
            "service_accounts": {
                "audience": AUDIENCE,
                "api_server": self.url,
                "token_file": str(self.folder / "own" / "token"),
                "ca_file": str(self.folder / "own" / "ca.crt"),
            },
            "rules_file": str(self.folder / "rules" / "rules.yaml"),
        }

    def write_rules(self, *rules: dict[str, Any]) -> str:
        """The rules file, with its hash, which is given back."""
        parsed = [AccessRule.model_validate(rule) for rule in rules]
        found = rules_hash(parsed)
        swap(self.folder / "rules", {"rules.yaml": json.dumps({"hash": found, "rules": list(rules)}).encode()})
        return found

    def token(self, namespace: str = "apps", name: str = "uploader", **changes: Any) -> str:
        """A token as the API server makes it; `changes` to claims, where `None` takes one away."""
        return self.signed(claims(namespace, name, **{"iss": self.issuer, **changes}))

    def signed(self, payload: dict[str, Any], key: Key | None = None, **header: Any) -> str:
        used = key or self.signing
        algorithm = {"RSA": "RS256", "EC": "ES256"}[used.key_type]
        head = {"alg": algorithm, "kid": used.kid, **header}
        return jwt.encode({k: v for k, v in head.items() if v is not None}, payload, used, algorithms=[head["alg"]])

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        cluster = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                cluster.asked.append(self.path)
                status, body = cluster._answer(self.path, self.headers.get("Authorization"))
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def _answer(self, path: str, authorization: str | None) -> tuple[int, Any]:
        if self.refuse is not None:
            return self.refuse, {"kind": "Status", "code": self.refuse}
        if authorization != f"Bearer {OWN_TOKEN}":
            return 401, {"kind": "Status", "code": 401}
        match path:
            case "/.well-known/openid-configuration":
                # The address of keys that it names is never called: a cluster need not reach it.
                return 200, {"issuer": self.issuer, "jwks_uri": "https://unreachable.test.invalid/jwks"}
            case "/openid/v1/jwks":
                return 200, {"keys": self.published}
            case _:
                return 404, {}


def claims(namespace: str = "apps", name: str = "uploader", **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    made = {
        "iss": ISSUER,
        "aud": [AUDIENCE],
        "sub": f"system:serviceaccount:{namespace}:{name}",
        "iat": now - 5,
        "nbf": now - 5,
        "exp": now - 5 + 3600,
        "jti": "0a1b",
        "kubernetes.io": {
            "namespace": namespace,
            "node": {"name": "node-1", "uid": "u1"},
            "pod": {"name": "p", "uid": "u2"},
            "serviceaccount": {"name": name, "uid": "u3"},
        },
        **changes,
    }
    return {claim: value for claim, value in made.items() if value is not None}


def rsa_key(name: str, bits: int = 2048) -> RSAKey:
    return RSAKey.generate_key(bits, {"kid": _kid(name), "alg": "RS256", "use": "sig"})


def ec_key(name: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": _kid(name), "alg": "ES256", "use": "sig"})


def _kid(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:20]


@contextmanager
def cluster_at(folder: Path) -> Iterator[Cluster]:
    made = Cluster(folder).start()
    try:
        yield made
    finally:
        made.stop()
