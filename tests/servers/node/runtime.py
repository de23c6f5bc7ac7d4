"""The stand-in's side of a sandbox: start a pod's namespaces and network, and run programs in them."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.node.mounts import Mount
from tests.servers.node.network import Network

_names = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whom a program runs as; only real root can choose."""

    user: int
    group: int
    groups: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One program in a container. `log`: where its output goes, outside of the container."""

    container: str
    argv: list[str]
    environment: dict[str, str]
    folder: str
    user: User | None
    log: Path

    def command(self) -> dict[str, Any]:
        user = asdict(self.user) if self.user else {"user": None, "group": None, "groups": []}
        values = {"container": self.container, "argv": self.argv, "environment": self.environment}
        return values | {"folder": self.folder, "log": str(self.log)} | user


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """What a container is to see; see `mounts.build_root`."""

    path: Path
    mounts: list[Mount]
    opened: list[str]
    read_only: bool


@dataclass(slots=True, eq=False)
class Process:
    """A program that was started. `error`: why it was not. `exited`: its code, negative for a signal."""

    name: str
    error: str | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    exited: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class PodSandbox:
    """`async with PodSandbox(…)`: a pod's namespaces; at the end everything in them is killed."""

    def __init__(self, hostname: str, address: str, network: Network) -> None:
        self._hostname, self._address, self._network = hostname, address, network
        self._processes: dict[str, Process] = {}
        self._child: asyncio.subprocess.Process | None = None
        self._events: asyncio.Task[None] | None = None
        self._networked = asyncio.Event()

    async def __aenter__(self) -> PodSandbox:
        namespaces = ("--mount", "--net", "--pid", "--uts", "--ipc")
        command = ("unshare", *namespaces, "--fork", "--kill-child", sys.executable, "-m", "tests.servers.node.sandbox")
        self._child = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert self._child.stdout is not None
        hello = await self._child.stdout.readline()
        if not hello:
            raise RuntimeError(f"no sandbox: {await self._child.wait()}")
        self._events = asyncio.create_task(self._listen())
        await self._network.attach(self._child.pid)
        self._send("network", hostname=self._hostname, commands=self._network.inside(self._address))
        async with asyncio.timeout(30):
            await self._networked.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._child is not None
        if self._child.returncode is None:
            self._child.kill()
        await self._child.wait()
        if self._events is not None:
            await self._events

    async def run(self, launch: Launch, root: Root) -> Process:
        """The container's first program, in a new root."""
        mounts = [asdict(each) for each in root.mounts]
        values = {"root": str(root.path), "mounts": mounts, "opened": root.opened, "read_only_root": root.read_only}
        return await self._start("run", launch, values)

    async def join(self, launch: Launch) -> int:
        """Another program in a running container: its exit code."""
        process = await self._start("join", launch, {})
        try:
            return await process.exited
        except asyncio.CancelledError:
            self.signal(process, 9)
            raise

    def signal(self, process: Process, number: int) -> None:
        self._send("signal", id=process.name, number=number)

    async def _start(self, do: str, launch: Launch, values: dict[str, Any]) -> Process:
        process = Process(f"{launch.container}-{next(_names)}" if do == "join" else launch.container)
        self._processes[process.name] = process
        self._send(do, id=process.name, **launch.command(), **values)
        await process.started.wait()
        return process

    def _send(self, do: str, **values: Any) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        if self._child.returncode is None:
            self._child.stdin.write(json.dumps({"do": do} | values).encode() + b"\n")

    async def _listen(self) -> None:
        assert self._child is not None
        assert self._child.stdout is not None
        while line := await self._child.stdout.readline():
            event = json.loads(line)
            match event["event"]:
                case "network":
                    self._networked.set()
                case "started":
                    self._processes[event["id"]].error = event["error"]
                    self._processes[event["id"]].started.set()
                case "exited":
                    self._processes.pop(event["id"]).exited.set_result(event["code"])
                case unknown:
                    raise ValueError(f"unknown event {unknown!r}")
        for process in self._processes.values():
            # The sandbox is gone, and with it what ran in it.
            process.started.set()
            if not process.exited.done():
                process.exited.set_result(-9)
