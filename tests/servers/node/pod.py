"""One pod on its node: volumes, sandbox, containers, status; and its end, which is the object's end too."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from tests.servers.node import states
from tests.servers.node.client import ApiError, Object
from tests.servers.node.container import DEFAULT_GRACE, SEARCH_PATH, Container, Place
from tests.servers.node.environment import KNOWN_SOURCES, NotYet, environment
from tests.servers.node.events import Teller
from tests.servers.node.machine import Machine, can_choose_users
from tests.servers.node.mounts import Mount
from tests.servers.node.names import hosts_file, resolver_file
from tests.servers.node.network import node_address
from tests.servers.node.runtime import PodSandbox, Root, User
from tests.servers.node.volumes import Owner, Volumes, unsupported

ASK_AGAIN = 0.3
LOOK_AGAIN = 1.0
"""Seconds; volumes are also written when something is heard, so this is for what only time changes: tokens."""

CHECKOUT = Path(__file__).resolve().parents[3]
OPENED = sorted({str(CHECKOUT), sys.prefix, sys.base_prefix})

log = logging.getLogger(__name__)


class Pod:
    """`run` ends when the object is gone. `heard` tells it a newer version of the object, `look` that something else
    has changed.
    """

    def __init__(self, pod: Object, number: int, machine: Machine) -> None:
        self.object = pod
        self.address = machine.network.take(number)
        self._machine = machine
        self._teller = Teller(machine.client, pod)
        self._folder = machine.root / "pods" / pod["metadata"]["uid"]
        self._where = states.Place(address="", host=node_address(number), since=datetime.now(UTC))
        policy = pod["spec"].get("restartPolicy", "Always")
        init_policy = "Never" if policy == "Never" else "OnFailure"
        self.inits = self._containers("initContainers", init_policy)
        self.containers = self._containers("containers", policy)
        self._users = can_choose_users()
        self._volumes = Volumes(
            pod,
            self._folder / "volumes",
            host=machine.host(pod["spec"]["nodeName"]),
            owner=self._owner(),
            client=machine.client,
        )
        self._changed, self._seen = asyncio.Event(), asyncio.Event()
        self._dying, self._gone = asyncio.Event(), asyncio.Event()
        self._told: Object = {}

    # What the stand-in tells

    def heard(self, pod: Object | None) -> None:
        if pod is None:
            self._gone.set()
            self._dying.set()
            return
        self.object = pod
        if "deletionTimestamp" in pod["metadata"]:
            self._dying.set()
        self.look()

    def look(self) -> None:
        """Something that the pod may depend on has changed: objects, Services, a test's rules."""
        self._seen.set()
        self._write_hosts()
        for container in (*self.inits, *self.containers):
            container.misbehave()

    def kill(self, container: str) -> None:
        for each in self.containers:
            if each.spec["name"] == container:
                each.kill()

    # Its life

    async def run(self) -> None:
        telling = asyncio.create_task(self._keep_telling())
        try:
            async with AsyncExitStack() as stack:
                life = asyncio.create_task(self._live(stack))
                dying = asyncio.create_task(self._dying.wait())
                await asyncio.wait([life, dying], return_when=asyncio.FIRST_COMPLETED)
                if life.done():
                    life.result()  # raises what went wrong; a pod whose work is done waits for its end
                await self._dying.wait()
                await self._stop()
                life.cancel()
                await asyncio.gather(life, return_exceptions=True)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        await self._finish()

    async def _live(self, stack: AsyncExitStack) -> None:
        refusals = self._unsupported()
        for refusal in refusals:
            await self._teller.tell("UnsupportedByStandIn", refusal)
        if refusals:
            return
        await self._write_volumes()
        sandbox = await stack.enter_async_context(
            PodSandbox(self.object["metadata"]["name"], self.address, self._machine.network)
        )
        self._where = states.Place(address=self.address, host=self._where.host, since=self._where.since)
        self._change()
        async with asyncio.TaskGroup() as tasks:
            refreshing = tasks.create_task(self._keep_volumes())
            for container in self.inits:
                await container.run(self._place(container, sandbox))
                if not isinstance(container.state, states.Terminated) or container.state.code != 0:
                    refreshing.cancel()
                    return
            runs = [tasks.create_task(each.run(self._place(each, sandbox))) for each in self.containers]
            await asyncio.wait(runs)
            refreshing.cancel()

    async def _stop(self) -> None:
        grace = self._grace()
        async with asyncio.TaskGroup() as tasks:
            for container in (*self.inits, *self.containers):
                tasks.create_task(container.stop(grace))

    async def _finish(self) -> None:
        while not self._gone.is_set():
            try:
                await self._tell()
                await self._delete()
                break
            except (aiohttp.ClientError, TimeoutError) as error:
                log.info("the end of %s again: %s", self.object["metadata"]["name"], error)
                await asyncio.sleep(ASK_AGAIN)
        self._machine.network.give_back(self.address)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _delete(self) -> None:
        metadata = self.object["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        try:
            await self._machine.client.delete(
                path, {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
            )
        except ApiError as error:
            if error.status not in {404, 409}:
                raise

    def _grace(self) -> float:
        if self._gone.is_set():
            return 0
        usual = self.object["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE)
        return float(self.object["metadata"].get("deletionGracePeriodSeconds", usual))

    # Volumes

    async def _write_volumes(self) -> None:
        while True:
            self._seen.clear()
            try:
                await self._volumes.write(self.object, self._machine.heard.cluster)
                return
            except NotYet as error:
                await self._teller.tell("FailedMount", str(error))
                await self._until_seen(ASK_AGAIN)

    async def _keep_volumes(self) -> None:
        while True:
            await self._until_seen(LOOK_AGAIN)
            self._seen.clear()
            try:
                await self._volumes.write(self.object, self._machine.heard.cluster)
            except NotYet as error:
                # What was mounted stays as it was, as on a node.
                log.info("volumes of %s stay: %s", self.object["metadata"]["name"], error)

    async def _until_seen(self, seconds: float) -> None:
        seen = asyncio.create_task(self._seen.wait())
        try:
            await asyncio.wait([seen], timeout=seconds)
        finally:
            seen.cancel()

    # Containers

    def _containers(self, which: str, policy: str) -> list[Container]:
        return [Container(spec, policy, self._teller, self._change) for spec in self.object["spec"].get(which, [])]

    def _place(self, container: Container, sandbox: PodSandbox) -> Place:
        name, spec, metadata = container.spec["name"], container.spec, self.object["metadata"]
        namespace = metadata["namespace"]
        self._folder.mkdir(parents=True, exist_ok=True)
        termination_log = self._folder / f"{name}.termination-log"
        termination_log.touch()
        machine = self._machine
        return Place(
            sandbox=sandbox,
            address=self.address,
            root=self._root(spec, termination_log),
            user=self._user(spec),
            environment=lambda: self._environment(spec),
            behaviours=lambda: machine.rules.of(namespace, metadata["name"]),
            termination_log=termination_log,
            log=machine.log(namespace, metadata["name"], name),
            probing=machine.probing,
            missing_images=machine.missing_images,
            grace=self.object["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE),
        )

    def _root(self, spec: Object, termination_log: Path) -> Root:
        self._write_hosts()
        (self._folder / "resolv.conf").write_text(resolver_file())
        files = {
            spec.get("terminationMessagePath", "/dev/termination-log"): termination_log,
            "/etc/hosts": self._folder / "hosts",
            "/etc/resolv.conf": self._folder / "resolv.conf",
        }
        mounts = [Mount(source=str(source), target=target, read_only=False) for target, source in files.items()]
        mounts += [self._mount(each) for each in spec.get("volumeMounts", [])]
        read_only = bool(spec.get("securityContext", {}).get("readOnlyRootFilesystem"))
        return Root(path=self._folder / "roots" / spec["name"], mounts=mounts, opened=OPENED, read_only=read_only)

    def _mount(self, mount: Object) -> Mount:
        source = self._volumes.path(mount["name"])
        volume = next(each for each in self.object["spec"]["volumes"] if each["name"] == mount["name"])
        # Volumes of files from the cluster are never written to by a pod, whatever it says.
        fixed = not {"emptyDir", "hostPath"} & volume.keys()
        path = source / mount["subPath"] if mount.get("subPath") else source
        return Mount(source=str(path), target=mount["mountPath"], read_only=fixed or bool(mount.get("readOnly")))

    def _environment(self, spec: Object) -> dict[str, str]:
        pod, heard = self.object, self._machine.heard
        # The watch may not have brought the address yet, which the program is told all the same.
        status = pod.get("status", {}) | {"podIP": self.address, "hostIP": self._where.host}
        api = heard.services.get("default", "kubernetes")
        services = [api] if api else []
        if pod["spec"].get("enableServiceLinks", True):
            services += [each for each in heard.services.within(pod["metadata"]["namespace"]) if each is not api]
        base = {"PATH": SEARCH_PATH, "HOSTNAME": pod["metadata"]["name"], "HOME": "/"}
        return environment(pod | {"status": status}, spec, heard.cluster, services, base)

    def _user(self, spec: Object) -> User | None:
        context = self.object["spec"].get("securityContext", {}) | spec.get("securityContext", {})
        user = context.get("runAsUser", 0)
        if not self._users or user == 0:
            return None
        extra = [*context.get("supplementalGroups", []), *([context["fsGroup"]] if "fsGroup" in context else [])]
        return User(user=user, group=context.get("runAsGroup", 0), groups=extra)

    def _owner(self) -> Owner:
        context = self.object["spec"].get("securityContext", {})
        if not can_choose_users():
            return Owner(user=None, group=None)
        return Owner(user=context.get("runAsUser"), group=context.get("fsGroup"))

    def _unsupported(self) -> list[str]:
        spec = self.object["spec"]
        refusals = [found for each in spec.get("volumes", []) if (found := unsupported(each))]
        refusals += ["hostNetwork"] if spec.get("hostNetwork") else []
        for each in (*spec.get("initContainers", []), *spec["containers"]):
            refusals += [f"{name} of {each['name']}" for name in ("lifecycle", "restartPolicy") if name in each]
            sources = [entry["valueFrom"] for entry in each.get("env", []) if "valueFrom" in entry]
            refusals += [f"env {sorted(source)}" for source in sources if not KNOWN_SOURCES & source.keys()]
            refusals += [] if each.get("command") else [f"no command of {each['name']}: there is no image to have one"]
        return refusals

    def _write_hosts(self) -> None:
        """In place, since containers have the file itself mounted."""
        if self._folder.exists():
            text = hosts_file(self.object, self.address, self._machine.heard.services)
            path = self._folder / "hosts"
            if not path.exists() or path.read_text() != text:
                path.write_text(text)

    # Status

    def _change(self) -> None:
        self._changed.set()

    async def _keep_telling(self) -> None:
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._tell()
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                log.info("status of %s again: %s", self.object["metadata"]["name"], error)
                await asyncio.sleep(ASK_AGAIN)
                self._changed.set()

    async def _tell(self) -> None:
        status = states.pod_status(self.object, self.inits, self.containers, self._where, datetime.now(UTC))
        if status == self._told or self._gone.is_set():
            return
        metadata = self.object["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        try:
            await self._machine.client.merge(path, {"metadata": {"uid": metadata["uid"]}, "status": status})
        except ApiError as error:
            if error.status not in {404, 409}:
                raise
        self._told = status
