"""Addresses and wires: a bridge, a pair of virtual cables for each pod, and whole ranges that are simply ours.

All of it is in the stand-in's network namespace and ends with it. Nothing routes to the machine's own network: what
leaves goes through the gates, by name.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

BRIDGE = "cni0"
BRIDGE_ADDRESS = "02:00:00:00:00:01"
GATEWAY = "10.244.0.1"
POD_BITS = 16
SERVICES = "10.0.0.0/16"
NODES = "10.1.0.0/16"
OUTSIDE = "10.245.0.1"
"""Where pods meet the servers of the machine's own 127.0.0.1, port by port as tests ask for it."""


class Network:
    def __init__(self) -> None:
        self._cables = itertools.count()
        self._used: set[str] = set()
        self._turn = itertools.cycle(range(1, 255))

    async def set_up(self) -> None:
        # Whole local ranges: any address in them can be listened on, without a command for each.
        local = (f"route add local {each} dev lo" for each in (SERVICES, NODES, f"{OUTSIDE}/32"))
        # An address of its own: else it takes one of its cables', another with each pod, and what pods know is wrong.
        bridge = (
            f"link add {BRIDGE} address {BRIDGE_ADDRESS} type bridge",
            f"addr add {GATEWAY}/{POD_BITS} dev {BRIDGE}",
            f"link set {BRIDGE} up",
        )
        await _ip(["link set lo up", *local, *bridge])

    def take(self, node: int) -> str:
        """A pod's address."""
        free = (f"10.244.{node}.{next(self._turn)}" for _ in range(254))
        address = next(each for each in free if each not in self._used)
        self._used.add(address)
        return address

    def give_back(self, address: str) -> None:
        self._used.discard(address)

    async def attach(self, pid: int) -> None:
        """A cable between the bridge and the network namespace of `pid`."""
        cable = f"pod{next(self._cables)}"
        await _ip([f"link add {cable} type veth peer name eth0 netns {pid}", f"link set {cable} master {BRIDGE} up"])

    def inside(self, address: str) -> str:
        """What a pod's first process does with its end of the cable."""
        lines = ("link set lo up", f"addr add {address}/{POD_BITS} dev eth0", "link set eth0 up",
                 f"route add default via {GATEWAY}")  # fmt: skip
        return "\n".join(lines) + "\n"


def node_address(node: int) -> str:
    return f"10.1.0.{node}"


async def _ip(commands: Iterable[str]) -> None:
    process = await asyncio.create_subprocess_exec("ip", "-batch", "-", stdin=asyncio.subprocess.PIPE)
    await process.communicate("\n".join(commands).encode() + b"\n")
    if process.returncode != 0:
        raise RuntimeError("ip could not make the pods' network; it has said why")
