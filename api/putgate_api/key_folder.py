"""Upload keys as Kubernetes mounts them: a folder with one file per key, named by its id.

A key that is accepted and not there is missing, not unknown: what it has sealed is answered `not_ready` instead of
being called a forgery. The other keys go on meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from putgate_api.reloading import Reloading, Unreadable
from putgate_api.upload_id import UploadKeys, parse_upload_key

log = structlog.get_logger("putgate.api")

LOOK_EVERY = 1.0
"""Seconds between two looks at the files: every seal asks for the keys, and a rotation takes minutes anyway."""


class KeyFolder:
    """`current` gives the keys as the files have them, at most `LOOK_EVERY` seconds old."""

    def __init__(
        self, folder: Path, *, signing: str, accepted: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._signing = signing
        self._files = {
            key_id: Reloading(folder / key_id, parse_upload_key, told=_teller(key_id)) for key_id in accepted
        }
        self._clock = clock
        self._looked: float | None = None
        self._keys = UploadKeys(signing=signing, accepted={})

    def current(self) -> UploadKeys:
        now = self._clock()
        if self._looked is None or now - self._looked >= LOOK_EVERY:
            self._keys = self._look()
            self._looked = now
        return self._keys

    def _look(self) -> UploadKeys:
        accepted: dict[str, bytes] = {}
        missing: dict[str, str] = {}
        for key_id, file in self._files.items():
            try:
                accepted[key_id] = file.current()
            except Unreadable as error:
                missing[key_id] = str(error)
        return UploadKeys(signing=self._signing, accepted=accepted, missing=missing)


def _teller(key_id: str) -> Callable[[bytes | None, str], None]:
    def tell(secret: bytes | None, failure: str) -> None:
        if secret is None:
            log.error("upload key is missing", key=key_id, reason=failure)
        else:
            log.info("upload key read", key=key_id)

    return tell
