"""A TLS front whose certificate changes: for trust that has to follow."""

from __future__ import annotations

from pathlib import Path

from tests.servers.certificates import Authority
from tests.servers.tls_front import TlsFront


class ChangingFront(TlsFront):
    def present(self, authority: Authority, folder: Path) -> None:
        """Show a certificate by this authority from now on, and break the connections that have seen another."""
        certificate, key = authority.issue()
        pair = folder / "pair.pem"
        pair.write_bytes(certificate + key)
        self._context.load_cert_chain(pair)
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for end in list(self._ends.open):
            end.transport.abort()
