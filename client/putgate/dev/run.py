"""Starts the programs in order, shows what happens, and stops them in the reverse order."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from putgate.dev.child import Child
from putgate.dev.errors import DevError
from putgate.dev.home import HOST, STORE_PORTS, Home, Ports
from putgate.dev.show import shown, welcome

NEEDED_MODULES = ("aiobotocore", "pathspec", "prometheus_client", "structlog", "uvloop", "watchfiles")
"""What the extra `dev` brings beside the programs; looked for before anything is started."""

PROGRAMS = ("putgate-api", "putgate-daemon", "weed")

START_DEADLINE = 90.0
"""Seconds for one program to become ready. A store that looks through its data after a crash takes the longest."""

STORE_PATIENCE = 2.0
"""Seconds for the store to end. It would take 15, waiting for a stream between its own parts; what it has answered is
on disk already, and `kill` loses none of it.
"""

POLL = 0.05
"""Seconds between two looks at whether a program is ready."""

Say = Callable[[str], None]

Ready = Callable[[], Coroutine[Any, Any, None]]
"""Waits until a program is ready."""


def find_programs() -> dict[str, str]:
    """The path of each program, beside this interpreter or on PATH. Raises `DevError` that names what is missing."""
    beside = str(Path(sys.executable).parent)
    found = {name: shutil.which(name, path=beside) or shutil.which(name) for name in PROGRAMS}
    missing = [name for name, path in found.items() if path is None]
    missing += [name for name in NEEDED_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise DevError(f"missing: {', '.join(missing)}. Install all that it needs: pip install 'putgate[dev]'")
    return {name: path for name, path in found.items() if path is not None}


def run(*, home: Path, folder: Path, say: Say) -> None:
    """Run everything until SIGINT or SIGTERM.

    Raises `DevError` when something is missing, does not become ready, or ends by itself; nothing is left running.
    """
    programs = find_programs()
    place = Home(path=home.resolve())
    place.check_folder(folder.resolve())
    place.prepare()
    with place.locked():
        folder.mkdir(parents=True, exist_ok=True)
        ports = Ports.choose(place / "ports.json")
        place.write_settings(ports, folder.resolve())
        asyncio.run(_Run(programs, place, ports, folder, say).run())


class _Run:
    """The children of one run."""

    def __init__(self, programs: dict[str, str], home: Home, ports: Ports, folder: Path, say: Say) -> None:
        self._programs = programs
        self._home = home
        self._ports = ports
        self._folder = folder
        self._say = say
        self._children: list[Child] = []
        self._stop = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for one in signals:
            loop.add_signal_handler(one, self._asked_to_stop)
        try:
            await self._until_stopped()
        finally:
            for child in reversed(self._children):
                await child.stop()
            for one in signals:
                loop.remove_signal_handler(one)

    def _asked_to_stop(self) -> None:
        """The first time in good order, the second time at once."""
        if self._stop.is_set():
            for child in self._children:
                child.kill()
        self._stop.set()

    async def _until_stopped(self) -> None:
        self._say("Starting a local store, the API and the daemon …")
        for start in (self._start_store, self._start_api, self._start_daemon):
            child, ready = await start()
            self._children.append(child)
            if not await self._reach(_by_deadline(child, ready)):
                return
        self._say(welcome(self._home, self._ports, self._folder))
        await self._reach(asyncio.Event().wait())
        self._say("Stopping …")

    async def _reach(self, goal: Coroutine[Any, Any, object]) -> bool:
        """Wait for `goal`. Answers False when asked to stop meanwhile; raises when a child ends meanwhile."""
        wanted: asyncio.Task[object] = asyncio.create_task(goal)
        stopped: asyncio.Task[object] = asyncio.create_task(self._stop.wait())
        ends = {asyncio.create_task(child.ended()): child for child in self._children}
        waiting = [wanted, stopped, *ends]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                return False
            for end, child in ends.items():
                if end.done():
                    raise child.failure(f"has ended ({end.result()})")
            await wanted
            return True
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _start_store(self) -> tuple[Child, Ready]:
        command = [
            self._programs["weed"],
            "server",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-dir={self._home / 'store'}",
            "-filer",
            "-s3",
            f"-s3.config={self._home / 'store.json'}",
            *(f"{STORE_PORTS[name]}={port}" for name, port in self._ports.store.items()),
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.volumeSizeLimitMB=1024",
            "-master.telemetry=false",
            "-volume.max=0",  # as many volumes as the disk takes
            "-volume.preStopSeconds=0",  # else it ends only half a minute after SIGTERM
            "-master.peers=none",  # else it looks for others: 1 to 5 s at the first start, 10 to 20 at the next
        ]
        child = await Child.start("store", command, self._log("store"), patience=STORE_PATIENCE)
        topology = f"http://{HOST}:{self._ports.store['master']}/dir/status"

        async def ready() -> None:
            await _has_volumes(topology)
            await _answers(f"{self._ports.store_url}/status")

        return child, ready

    async def _start_api(self) -> tuple[Child, Ready]:
        command = [self._programs["putgate-api"], "serve", "--config", str(self._home / "api.yaml")]
        child = await Child.start("putgate-api", command, self._log("putgate-api"))
        return child, lambda: _answers(f"http://{HOST}:{self._ports.admin}/readyz")

    async def _start_daemon(self) -> tuple[Child, Ready]:
        command = [self._programs["putgate-daemon"], "run", "--config", str(self._home / "daemon.yaml")]
        child = await Child.start("putgate-daemon", command, self._log("putgate-daemon"), follow=self._show)
        return child, _at_once

    def _log(self, name: str) -> Path:
        return self._home / "logs" / f"{name}.log"

    def _show(self, line: str) -> None:
        if (text := shown(line, time.strftime("%H:%M:%S"))) is not None:
            self._say(text)


async def _by_deadline(child: Child, ready: Ready) -> None:
    try:
        async with asyncio.timeout(START_DEADLINE):
            await ready()
    except TimeoutError:
        raise child.failure(f"was not ready after {START_DEADLINE:.0f} s") from None


async def _at_once() -> None:
    """A program that is of use from its first moment on."""


async def _answers(url: str) -> None:
    """Wait until a GET is answered with 200."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):  # it does not listen yet
                async with http.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(POLL)


async def _has_volumes(url: str) -> None:
    """Wait until the store's master knows of room for data."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with http.get(url) as answer:
                    status = await answer.json(content_type=None)
                    if answer.status == 200 and status.get("Topology", {}).get("Max", 0) > 0:
                        return
            await asyncio.sleep(POLL)
