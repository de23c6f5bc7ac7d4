"""Runs kopf in a thread and an event loop of its own.

kopf takes the process's signals for itself, and at its end cancels every task of its event loop that it did not find
there at its start. Apart from ours it can do neither: SIGTERM lets us finish what is in work and give the lease back.

Each namespace has watches of its own: where one cannot be read any longer, kopf ends, and only that one is blind.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import kopf
import structlog

from putgate_operator.handlers import Watching

STOP_WITHIN = 10.0
"""Seconds for kopf to end its watches; it leaves nothing behind that needs more."""

FIRST_DELAY = 1.0
LAST_DELAY = 60.0
"""Seconds between an end that nobody asked for and the next beginning, doubled each time. kopf has tried for a minute
by then."""

log = structlog.get_logger("putgate.operator")


class Watches:
    """Of one namespace; None for all of the cluster. `begun_again`: called in the caller's event loop when the watches
    begin after they had ended by themselves: what was deleted meanwhile, they do not show.
    """

    def __init__(self, watching: Watching, namespace: str | None, begun_again: Callable[[], None]) -> None:
        self._watching = watching
        self._namespace = namespace
        self._begun_again = begun_again
        self._loop = asyncio.get_running_loop()
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._main, name="watches", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join, STOP_WITHIN)

    def why_not_ready(self) -> str | None:
        where = "" if self._namespace is None else f" of namespace {self._namespace}"
        return None if self._ready.is_set() else f"the watches{where} do not run"

    def _main(self) -> None:
        delay = FIRST_DELAY
        while True:
            began = time.monotonic()
            self._watch()
            self._ready.clear()
            if self._stop.is_set():
                return
            delay = FIRST_DELAY if time.monotonic() - began > 2 * LAST_DELAY else min(delay * 2, LAST_DELAY)
            log.error("the watches have ended", namespace=self._namespace, again_in=delay)
            if self._stop.wait(delay):
                return
            self._loop.call_soon_threadsafe(self._begun_again)

    def _watch(self) -> None:
        try:
            asyncio.run(
                kopf.operator(
                    registry=self._watching.registry(self._deliver),
                    settings=self._watching.settings(),
                    standalone=True,
                    clusterwide=self._namespace is None,
                    namespaces=[] if self._namespace is None else [self._namespace],
                    ready_flag=self._ready,
                    stop_flag=self._stop,
                )
            )
        except Exception:
            log.exception("the watches have failed", namespace=self._namespace)

    def _deliver(self, note: Callable[..., None], *arguments: Any) -> None:
        """Events change what is seen in the one event loop where it is read."""
        self._loop.call_soon_threadsafe(note, *arguments)
