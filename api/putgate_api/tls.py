"""TLS of the API's port: certificate and key from files, read again when they change.

New connections get the newest pair, through the server-name callback of one listening context; those that are open
keep theirs. A pair that cannot be used changes nothing: the old one goes on and the log says why. Before there is
any pair there is no context, so nobody can serve without TLS what was meant to have it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import structlog

from putgate_api.reloading import Stamp, stamp

log = structlog.get_logger("putgate.api")

LOOK_EVERY = 0.5
"""Seconds between two looks at the files: two stats, so seldom would gain nothing."""


class ServerTls:
    """`failure`: what is wrong with the files as they are now; None when they are in use."""

    def __init__(self, *, cert_file: Path, key_file: Path) -> None:
        self._files = (cert_file, key_file)
        self._seen: tuple[Stamp, Stamp] | None = None
        self._newest: ssl.SSLContext | None = None
        self.failure: str | None = None
        self._listening = _context()
        # Called for every connection, also for those that name no server.
        self._listening.sni_callback = self._choose

    @property
    def loaded(self) -> bool:
        return self._newest is not None

    @property
    def context(self) -> ssl.SSLContext:
        """The one to listen with. Needs to be `loaded`."""
        if self._newest is None:
            raise RuntimeError("there is no certificate yet")
        return self._listening

    def look(self) -> bool:
        """Read the files if they have changed; whether there is a pair to serve with, old or new."""
        try:
            seen = (stamp(self._files[0]), stamp(self._files[1]))
        except OSError as error:
            self._failed(f"{error.filename}: {os.strerror(error.errno or 0)}")
            self._seen = None
        else:
            if seen != self._seen:
                self._load()
                self._seen = seen
        return self.loaded

    async def keep(self) -> None:
        """Follow the files, for ever; whoever starts this cancels it."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.look()

    def _load(self) -> None:
        """The two files are read in one go, and a mismatch of old and new is tried again at the next look."""
        fresh = _context()
        try:
            # Without an answer of ours OpenSSL would ask for a passphrase on the terminal, and wait.
            fresh.load_cert_chain(*self._files, password=lambda: "")
        except OSError as error:  # ssl.SSLError is one
            self._failed(f"{self._files[0]}, {self._files[1]}: {_why(error)}")
            return
        self._newest, self.failure = fresh, None
        log.info("certificate read", file=str(self._files[0]))

    def _failed(self, failure: str) -> None:
        if failure != self.failure:
            log.error("certificate cannot be used", reason=failure, old_one_goes_on=self.loaded)
        self.failure = failure

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        del name, context
        if self._newest is not None:
            connection.context = self._newest


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _why(error: OSError) -> str:
    """What OpenSSL makes of the files, without its numbers."""
    match error:
        case ssl.SSLError(reason=str() as reason):
            return f"no certificate and key that belong together ({reason.lower().replace('_', ' ')})"
        case ssl.SSLError():
            return "no certificate and key in PEM that belong together and need no passphrase"
        case _:
            return error.strerror or type(error).__name__
