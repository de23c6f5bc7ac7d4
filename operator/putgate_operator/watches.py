"""Runs kopf in a thread and an event loop of its own.

kopf takes the process's signals for itself, and at its end cancels every task of its event loop that it did not find
there at its start. Apart from ours it can do neither: SIGTERM lets us finish what is in work and give the lease back.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection
from typing import Any

import kopf
import structlog

from putgate_operator.errors import WatchesEnded
from putgate_operator.handlers import Watching

STOP_WITHIN = 10.0
"""Seconds for kopf to end its watches; it leaves nothing behind that needs more."""

log = structlog.get_logger("putgate.operator")


class Watches:
    """`ended`: called in the caller's event loop when the watches end, asked to or not: a new process starts afresh."""

    def __init__(self, watching: Watching, namespaces: Collection[str], ended: Callable[[], None]) -> None:
        self._watching = watching
        self._namespaces = namespaces
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._main, name="watches", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        """Raises `WatchesEnded` when they had ended before they were asked to."""
        ended = not self._thread.is_alive()
        self._stop.set()
        await asyncio.to_thread(self._thread.join, STOP_WITHIN)
        if ended:
            raise WatchesEnded("the watches have ended by themselves; the log says why")

    def why_not_ready(self) -> str | None:
        if not self._thread.is_alive():
            return "the watches have ended"
        return None if self._ready.is_set() else "the watches are starting"

    def _main(self) -> None:
        try:
            asyncio.run(
                kopf.operator(
                    registry=self._watching.registry(self._deliver),
                    settings=self._watching.settings(),
                    standalone=True,
                    clusterwide=not self._namespaces,
                    namespaces=list(self._namespaces),
                    ready_flag=self._ready,
                    stop_flag=self._stop,
                )
            )
        except Exception:
            log.exception("the watches have failed")
        finally:
            self._loop.call_soon_threadsafe(self._ended)

    def _deliver(self, note: Callable[..., None], *arguments: Any) -> None:
        """Events change what is seen in the one event loop where it is read."""
        self._loop.call_soon_threadsafe(note, *arguments)
