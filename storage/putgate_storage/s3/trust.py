"""Which certificates of a store are trusted: the system's, or those of a bundle that may be replaced at any time.

A bundle is mounted like any other volume: it may come after the process has started, and it is replaced before the
store gets a certificate by another authority. It must not decide what happens without one; the callers do.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from putgate_storage.errors import Permanent

Stamp = tuple[int, int]


def trust(bundle: Path | None) -> ssl.SSLContext:
    """What a client of the store's endpoint checks it by. Raises `Permanent` for a bundle that cannot be used."""
    try:
        return ssl.create_default_context(cafile=bundle)
    except ssl.SSLError as error:
        raise Permanent(f"the CA bundle {bundle} holds no certificates in PEM", code="CaBundleInvalid") from error
    except OSError as error:
        raise Permanent(f"the CA bundle {bundle}: {error.strerror}", code="CaBundleMissing") from error


def check_bundle(bundle: Path | None) -> None:
    """Raises `Permanent` for a bundle that cannot be used."""
    if bundle is not None:
        trust(bundle)


class Bundle:
    """A bundle that is looked at again: what was added to it is added to a context. What was taken away stays trusted
    until the process ends, which is no more trust than there was.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()

    def refresh(self, context: ssl.SSLContext) -> None:
        """A bundle that cannot be read just now is being replaced: the next look has it."""
        seen = self._stamp()
        if seen is None or seen == self._seen:
            return
        try:
            context.load_verify_locations(cafile=self._path)
        except OSError:
            return
        self._seen = seen

    def _stamp(self) -> Stamp | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns
