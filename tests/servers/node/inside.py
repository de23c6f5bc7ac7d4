"""The stand-in itself, in its own namespaces: it hears the cluster, places pods, and runs those on its nodes.

It ends when its standard input does. It is not a kubelet: it knows what Putgate's manifests use, and says so where a
pod asks for more (Event `UnsupportedByStandIn`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.servers.node.client import Client, Object
from tests.servers.node.machine import Heard, Machine, Rules
from tests.servers.node.mounts import mount
from tests.servers.node.network import Network
from tests.servers.node.nodes import make_node
from tests.servers.node.placing import Placing
from tests.servers.node.pod import Pod
from tests.servers.node.relay import forward, serve_gate, split, through
from tests.servers.node.services import Forwarders, routes_of
from tests.servers.node.watching import Key
from tests.servers.node.wishes import Wishes

API = "10.0.0.1:443"
"""The Service `default/kubernetes`, which pods and the stand-in itself use alike."""

READY_LINE = "node stand-in: ready"
FAILED = "the stand-in has failed"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`api`: where the API server listens on the machine's loopback."""

    kubeconfig: Path
    api: str
    nodes: int
    root: Path
    missing_images: frozenset[str]

    @property
    def outer_gate(self) -> Path:
        return self.root / "outer.sock"

    @property
    def inner_gate(self) -> Path:
        return self.root / "inner.sock"

    def node_names(self) -> list[str]:
        return [f"node-{number}" for number in range(1, self.nodes + 1)]


class StandIn:
    def __init__(self, options: Options, client: Client, network: Network, probing: aiohttp.ClientSession) -> None:
        self._options = options
        self.heard = Heard.create(self._heard)
        self._machine = Machine(
            root=options.root,
            client=client,
            heard=self.heard,
            network=network,
            rules=Rules(),
            missing_images=options.missing_images,
            probing=probing,
        )
        self._pods: dict[str, Pod] = {}
        self._ended: set[str] = set()
        self._placing = Placing(client, self.heard, self._machine.rules)
        self._routing = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Never returns."""
        client = self._machine.client
        async with asyncio.TaskGroup() as self._tasks:
            for number, name in enumerate(self._options.node_names(), 1):
                await make_node(client, name, number)
                self._machine.host(name).mkdir(parents=True, exist_ok=True)
            self._tasks.create_task(self.heard.follow(client))
            self._tasks.create_task(self._placing.keep())
            self._tasks.create_task(self._keep_routing())
            for kind in self.heard.kinds():
                await kind.heard.wait()
            wishes = Wishes(
                self._options.outer_gate, self._machine.rules, lambda: list(self._pods.values()), self._rules_changed
            )
            await serve_gate(self._options.inner_gate, wishes.verbs())
            print(READY_LINE, flush=True)  # noqa: T201  # who started it waits for this

    # What is heard

    def _heard(self, kind: str, key: Key) -> None:
        match kind:
            case "pods":
                self._pod(self.heard.pods.get(*key), key)
                self._placing.changed.set()
            case "nodes":
                self._placing.changed.set()
            case "services" | "slices":
                self._routing.set()
                if kind == "services":
                    self._look()
            case _:
                self._look(key[0])

    def _pod(self, pod: Object | None, key: Key) -> None:
        uid = str(pod["metadata"]["uid"]) if pod else ""
        for known in list(self._pods.values()):
            metadata = known.object["metadata"]
            if (metadata["namespace"], metadata["name"]) == key and metadata["uid"] != uid:
                known.heard(None)
        if pod is None:
            return
        node = pod["spec"].get("nodeName")
        if uid in self._pods:
            self._pods[uid].heard(pod)
        elif node in self._options.node_names() and uid not in self._ended and self._tasks is not None:
            self._pods[uid] = fresh = Pod(pod, self._options.node_names().index(node) + 1, self._machine)
            self._tasks.create_task(self._run(uid, fresh))

    async def _run(self, uid: str, pod: Pod) -> None:
        pod.heard(pod.object)
        try:
            await pod.run()
            # A finalizer may keep the object for a while, and must not make it run again.
            self._ended.add(uid)
        except Exception:
            # One pod's trouble must not take the others along; whoever started the stand-in finds it in the log.
            log.exception("%s: pod %s", FAILED, pod.object["metadata"]["name"])
        finally:
            self._pods.pop(uid, None)

    def _rules_changed(self) -> None:
        self._placing.changed.set()
        self._look()

    def _look(self, namespace: str | None = None) -> None:
        for pod in self._pods.values():
            if namespace in {None, pod.object["metadata"]["namespace"]}:
                pod.look()

    # Services

    async def _keep_routing(self) -> None:
        forwarders = Forwarders()
        while True:
            await self._routing.wait()
            self._routing.clear()
            routes = routes_of(self.heard.services, self.heard.slices)
            forwarders.sync({each: to for each, to in routes.items() if each != API})


async def run(options: Options) -> None:
    folder = options.root / "pods"
    folder.mkdir(exist_ok=True)
    mount("tmpfs", str(folder), "tmpfs", 0, "mode=0755")
    (options.root / "logs").mkdir(exist_ok=True)
    network = Network()
    await network.set_up()
    api = forward(*split(API), lambda: through(options.outer_gate, options.api))
    # A probe's connection is a new one each time, as a kubelet's is.
    probes = aiohttp.TCPConnector(force_close=True, limit=0)
    async with (
        Client.from_kubeconfig(options.kubeconfig, f"https://{API.removesuffix(':443')}") as client,
        aiohttp.ClientSession(connector=probes) as probing,
    ):
        await _until_told_to_end(StandIn(options, client, network, probing))
    api.close()


async def _until_told_to_end(stand_in: StandIn) -> None:
    loop, running = asyncio.get_running_loop(), asyncio.create_task(stand_in.run())
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    loop.add_signal_handler(signal.SIGTERM, reader.feed_eof)
    told = asyncio.create_task(reader.read())
    await asyncio.wait([running, told], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    # The kernel ends the pods with this process, the first of its namespace.
