"""What is remembered of uploads under way, so that a restart need not hash again. Where it is kept is injected.

Losing any of it costs time, never a file: the API itself knows which parts are stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from putgate_protocol.digests import Md5, PartHash
from putgate_protocol.names import Name

log = logging.getLogger("putgate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """`change_key`: the source's; when the source has another one, the hashes are void. `part_hashes`: of the first
    parts, perhaps not of all. `part_md5s`: of the same parts, where the store needs them. `upload_id`: the newest one,
    None before the first answer.
    """

    change_key: str
    part_size: int
    part_hashes: tuple[PartHash, ...]
    upload_id: str | None
    part_md5s: tuple[Md5, ...] = ()


class Progress(Protocol):
    """A store of `Known`, one per name."""

    async def load(self, name: Name) -> Known | None: ...

    async def save(self, name: Name, known: Known) -> None: ...

    async def forget(self, name: Name) -> None: ...


class NoProgress:
    """Remembers nothing."""

    async def load(self, name: Name) -> Known | None:
        return None

    async def save(self, name: Name, known: Known) -> None:
        """Not kept."""

    async def forget(self, name: Name) -> None:
        """Nothing was kept."""


class StateFiles:
    """One small file per upload in `folder`, written whole or not at all, gone when the upload is done.

    `server` and the paths in `sources` are part of a file's identity: the same name elsewhere is another upload.
    """

    def __init__(self, folder: Path, server: str, sources: Mapping[Name, bytes]) -> None:
        self._folder = folder
        self._server = server
        self._sources = sources

    def path(self, name: Name) -> Path:
        identity = b"\0".join((self._server.encode(), self._sources.get(name, b""), name.raw))
        return self._folder / f"{hashlib.sha256(identity).hexdigest()}.json"

    async def load(self, name: Name) -> Known | None:
        return await asyncio.to_thread(_load, self.path(name))

    async def save(self, name: Name, known: Known) -> None:
        about = {"server": self._server, "name": str(name), "path": os.fsdecode(self._sources.get(name, b""))}
        try:
            await asyncio.to_thread(_save, self.path(name), known, about)
        except OSError as error:
            # A full or read-only home must not stop an upload that needs neither.
            log.warning("cannot keep the state of %s in %s: %s", name, self._folder, error.strerror)

    async def forget(self, name: Name) -> None:
        try:
            await asyncio.to_thread(self.path(name).unlink, missing_ok=True)
        except OSError as error:
            # What it remembers no longer matters: a stored file is not reported as failed for it.
            log.warning("cannot remove the state of %s in %s: %s", name, self._folder, error.strerror)


_VERSION = 1


def _load(path: Path) -> Known | None:
    try:
        state = json.loads(path.read_bytes())
        if state["state_version"] != _VERSION:
            return None
        raw = bytes.fromhex(state["part_hashes"])
        raw_md5s = bytes.fromhex(state.get("part_md5s", ""))
        upload_id = state["upload_id"]
        return Known(
            change_key=str(state["change_key"]),
            part_size=int(state["part_size"]),
            part_hashes=tuple(PartHash(raw[at : at + 32]) for at in range(0, len(raw), 32)),
            upload_id=None if upload_id is None else str(upload_id),
            part_md5s=tuple(Md5(raw_md5s[at : at + 16]) for at in range(0, len(raw_md5s), 16)),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError):
        # Unreadable, written by another version, or damaged: the file is hashed again and the state replaced.
        return None


def _save(path: Path, known: Known, about: Mapping[str, str]) -> None:
    state = {
        "state_version": _VERSION,
        **about,
        "change_key": known.change_key,
        "part_size": known.part_size,
        "part_hashes": b"".join(known.part_hashes).hex(),
        "part_md5s": b"".join(known.part_md5s).hex(),
        "upload_id": known.upload_id,
    }
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(state).encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
