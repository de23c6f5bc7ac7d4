"""One container's life: start, probe, end, back off, start again."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from tests.servers.node.client import Object
from tests.servers.node.environment import NotYet, expand
from tests.servers.node.events import Teller
from tests.servers.node.machine import Behaviour
from tests.servers.node.probes import Target, watch_probe
from tests.servers.node.runtime import Launch, PodSandbox, Process, Root, User
from tests.servers.node.states import Running, State, Terminated, Waiting

FIRST_DELAY = 1.0
LONGEST_DELAY = 8.0
"""Seconds of back-off; a kubelet's are ten times longer, and the same in kind: none, then doubling."""
STEADY_AFTER = 60.0
"""After so many seconds of running the back-off begins anew."""

ASK_AGAIN = 0.3
MESSAGE_BYTES = 4096
DEFAULT_GRACE = 30

PROGRAMS = str(Path(sys.executable).parent)
SEARCH_PATH = f"{PROGRAMS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""This checkout's programs first: they are what the image would hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and how a container runs. `environment` and `behaviours` are asked at each start."""

    sandbox: PodSandbox
    address: str
    root: Root
    user: User | None
    environment: Callable[[], dict[str, str]]
    behaviours: Callable[[], set[Behaviour]]
    termination_log: Path
    log: Path
    probing: aiohttp.ClientSession
    missing_images: frozenset[str]
    grace: int


class Container:
    """`run` returns when the container is not to be started again; `stop` ends it for good."""

    def __init__(self, spec: Object, policy: str, teller: Teller, changed: Callable[[], None]) -> None:
        self.spec = spec
        self.state: State = Waiting("ContainerCreating")
        self.last: Terminated | None = None
        self.restarts = 0
        self.ready = False
        self.started = False
        self._policy, self._teller, self._changed = policy, teller, changed
        self._stopping = asyncio.Event()
        self._place: Place | None = None
        self._process: Process | None = None
        self._delay = 0.0

    async def run(self, place: Place) -> None:
        self._place = place
        await self._pull(place)
        while not self._stopping.is_set():
            ended = await self._once(place)
            if ended is None or not self._again(ended):
                return
            await self._back_off(ended)

    async def stop(self, grace: float) -> None:
        self._stopping.set()
        if self._process is not None:
            await self._end(self._process, grace)

    def misbehave(self) -> None:
        """Do what a test wishes now, to a program that runs."""
        if self._process is None or self._place is None:
            return
        wishes = self._place.behaviours()
        if "fail" in wishes:
            self.kill()
        self._place.sandbox.signal(self._process, signal.SIGSTOP if "hang" in wishes else signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None and self._place is not None:
            self._place.sandbox.signal(self._process, signal.SIGKILL)

    async def _pull(self, place: Place) -> None:
        """Until the image can be had: as with a kubelet, a first failure and then a back-off."""
        if not self._lacks_image(place):
            return
        self._now(Waiting("ErrImagePull", f'failed to pull image "{self.spec["image"]}": not found'))
        await self._teller.tell("Failed", f'Failed to pull image "{self.spec["image"]}": not found')
        await self._or_stopping(FIRST_DELAY)
        self._now(Waiting("ImagePullBackOff", f'Back-off pulling image "{self.spec["image"]}"'))
        while self._lacks_image(place) and not self._stopping.is_set():
            await self._or_stopping(ASK_AGAIN)

    def _lacks_image(self, place: Place) -> bool:
        return self.spec["image"] in place.missing_images or "unpullable" in place.behaviours()

    async def _once(self, place: Place) -> Terminated | None:
        """One run; None when it is to be stopped before it has begun."""
        environment = await self._environment(place)
        if environment is None:
            return None
        begun = datetime.now(UTC)
        place.termination_log.write_bytes(b"")
        place.termination_log.chmod(0o666)
        process = await place.sandbox.run(self._launch(place, environment), place.root)
        self._process = process
        if process.error is None:
            started = "startupProbe" not in self.spec
            self._now(Running(begun), ready=started and "readinessProbe" not in self.spec, started=started)
            await self._attend(place, process, environment)
        code = await process.exited
        self._process = None
        ended = self._terminated(place, process, code, begun)
        self._now(ended)
        return ended

    async def _attend(self, place: Place, process: Process, environment: dict[str, str]) -> None:
        """Probe and wait until the program ends."""
        self.misbehave()
        probes = asyncio.create_task(self._probe(place, process, environment))
        try:
            if self._stopping.is_set():
                await self._end(process, place.grace)
            await asyncio.wait([process.exited])
        finally:
            probes.cancel()
            await asyncio.gather(probes, return_exceptions=True)

    async def _environment(self, place: Place) -> dict[str, str] | None:
        while not self._stopping.is_set():
            try:
                return place.environment()
            except NotYet as error:
                self._now(Waiting("CreateContainerConfigError", str(error)))
                await self._teller.tell("Failed", f"Error: {error}")
                await self._or_stopping(ASK_AGAIN)
        return None

    def _launch(self, place: Place, environment: dict[str, str]) -> Launch:
        words = [*self.spec.get("command", []), *self.spec.get("args", [])]
        return Launch(
            container=self.spec["name"],
            argv=[expand(word, environment) for word in words],
            environment=environment,
            folder=self.spec.get("workingDir", "/"),
            user=place.user,
            log=place.log,
        )

    def _again(self, ended: Terminated) -> bool:
        return self._policy == "Always" or (self._policy == "OnFailure" and ended.code != 0)

    async def _back_off(self, ended: Terminated) -> None:
        if (ended.finished - ended.started).total_seconds() > STEADY_AFTER:
            self._delay = 0.0
        self.last = ended
        if self._delay:
            message = f"back-off {self._delay:g}s restarting failed container={self.spec['name']}"
            self._now(Waiting("CrashLoopBackOff", message))
            await self._teller.tell("BackOff", f"Back-off restarting failed container {self.spec['name']}")
            await self._or_stopping(self._delay)
        self._delay = min(max(self._delay * 2, FIRST_DELAY), LONGEST_DELAY)
        if not self._stopping.is_set():
            self.restarts += 1

    def _terminated(self, place: Place, process: Process, code: int, begun: datetime) -> Terminated:
        if process.error is not None:
            reason, message = "StartError", process.error
        else:
            reason, message = ("Completed" if code == 0 else "Error"), self._last_words(place, code)
        exit_code = code if code >= 0 else 128 - code
        return Terminated(code=exit_code, reason=reason, message=message, started=begun, finished=datetime.now(UTC))

    def _last_words(self, place: Place, code: int) -> str:
        words = place.termination_log.read_bytes()
        if not words and code != 0 and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            words = place.log.read_bytes()
        return words[-MESSAGE_BYTES:].decode(errors="replace")

    async def _probe(self, place: Place, process: Process, environment: dict[str, str]) -> None:
        """Startup first; then liveness and readiness side by side. Ends by being cancelled."""
        target = Target(
            address=place.address,
            ports={each["name"]: each["containerPort"] for each in self.spec.get("ports", []) if "name" in each},
            run=lambda argv: place.sandbox.join(replace(self._launch(place, environment), argv=argv)),
        )
        if "startupProbe" in self.spec:
            await self._until_started(place, process, target)
        async with asyncio.TaskGroup() as probes:
            for kind, told in (("livenessProbe", self._alive), ("readinessProbe", self._readiness)):
                if kind in self.spec:
                    probes.create_task(self._watch(kind, place, target, process, told))

    async def _until_started(self, place: Place, process: Process, target: Target) -> None:
        started = asyncio.Event()

        async def told(well: bool, trouble: str) -> None:
            if well:
                started.set()
            else:
                await self._alive(well, trouble, place, process)

        watch = asyncio.create_task(watch_probe(self.spec["startupProbe"], target, place.probing, told))
        try:
            await started.wait()
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        self.started, self.ready = True, "readinessProbe" not in self.spec
        self._changed()

    async def _watch(
        self,
        kind: str,
        place: Place,
        target: Target,
        process: Process,
        told: Callable[[bool, str, Place, Process], Awaitable[None]],
    ) -> None:
        await watch_probe(
            self.spec[kind], target, place.probing, lambda well, trouble: told(well, trouble, place, process)
        )

    async def _alive(self, well: bool, trouble: str, place: Place, process: Process) -> None:
        if not well:
            await self._teller.tell("Unhealthy", f"Probe failed, container {self.spec['name']} restarts: {trouble}")
            await self._end(process, place.grace)

    async def _readiness(self, well: bool, trouble: str, place: Place, process: Process) -> None:
        if not well:
            await self._teller.tell("Unhealthy", f"Readiness probe failed: {trouble}")
        if self.ready != well and not process.exited.done():
            self.ready = well
            self._changed()

    async def _end(self, process: Process, grace: float) -> None:
        assert self._place is not None
        self._place.sandbox.signal(process, signal.SIGTERM)
        await asyncio.wait([process.exited], timeout=grace)
        if not process.exited.done():
            self._place.sandbox.signal(process, signal.SIGKILL)
            await asyncio.wait([process.exited])

    async def _or_stopping(self, seconds: float) -> None:
        waiting = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([waiting], timeout=seconds)
        waiting.cancel()

    def _now(self, state: State, *, ready: bool = False, started: bool = False) -> None:
        self.state, self.ready, self.started = state, ready, started
        self._changed()
