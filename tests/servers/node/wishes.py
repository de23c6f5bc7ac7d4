"""What tests ask of the stand-in, through its gate; each holds for as long as its connection is open."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.servers.node.machine import Rule, Rules
from tests.servers.node.network import OUTSIDE
from tests.servers.node.pod import Pod
from tests.servers.node.relay import Forwarder, Verb, forward, split, through


class Wishes:
    """`changed` is called when the rules have changed."""

    def __init__(
        self, outer_gate: Path, rules: Rules, pods: Callable[[], Iterable[Pod]], changed: Callable[[], None]
    ) -> None:
        self._outer_gate, self._rules, self._pods, self._changed = outer_gate, rules, pods, changed
        self._forwarded: dict[str, Forwarder] = {}

    def verbs(self) -> dict[str, Verb]:
        return {"forward_in": self._forward_in, "rule": self._rule, "kill": self._kill}

    async def _forward_in(self, address: str) -> tuple[str, Any]:
        """`address`: on the machine's loopback. Several may ask for the same one."""
        port = split(address)[1]
        inside = f"{OUTSIDE}:{port}"
        if inside in self._forwarded:
            return inside, _nothing
        server = forward(OUTSIDE, port, lambda: through(self._outer_gate, address))
        self._forwarded[inside] = server

        async def undo() -> None:
            self._forwarded.pop(inside).close()

        return inside, undo

    async def _rule(self, wish: dict[str, Any]) -> tuple[str, Any]:
        rule = Rule(**wish)
        self._rules.active.append(rule)
        self._changed()

        async def undo() -> None:
            self._rules.active.remove(rule)
            self._changed()

        return "holds", undo

    async def _kill(self, wish: dict[str, str]) -> tuple[str, Any]:
        for pod in self._pods():
            metadata = pod.object["metadata"]
            if (metadata["namespace"], metadata["name"]) == (wish["namespace"], wish["pod"]):
                pod.kill(wish["container"])
                return "killed", _nothing
        raise ValueError(f"no pod {wish['namespace']}/{wish['pod']} runs here")


async def _nothing() -> None:
    """Nothing is to be undone."""
