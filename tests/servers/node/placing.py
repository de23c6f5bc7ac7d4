"""Places pods on nodes: asks `scheduling` for each that has no node, and tells the API server what it says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from datetime import UTC, datetime

import aiohttp

from tests.servers.node.client import ApiError, Client, Object
from tests.servers.node.machine import Heard, Rules
from tests.servers.node.scheduling import choose
from tests.servers.node.states import stamp

AGAIN_AFTER = 0.2

log = logging.getLogger(__name__)


class Placing:
    """`changed` is set when a pod, a node or a rule has changed."""

    def __init__(self, client: Client, heard: Heard, rules: Rules) -> None:
        self.changed = asyncio.Event()
        self._client, self._heard, self._rules = client, heard, rules

    async def keep(self) -> None:
        while True:
            await self.changed.wait()
            self.changed.clear()
            try:
                await self._place_all()
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                log.info("placing again: %s", error)
                await asyncio.sleep(AGAIN_AFTER)
                self.changed.set()

    async def _place_all(self) -> None:
        for pod in self._heard.pods:
            if "nodeName" in pod["spec"] or "deletionTimestamp" in pod["metadata"]:
                continue
            metadata = pod["metadata"]
            held = "pending" in self._rules.of(metadata["namespace"], metadata["name"])
            node = None if held else choose(pod, self._heard.nodes, self._heard.pods)
            await (self._bind(pod, node) if node else self._unschedulable(pod))

    async def _bind(self, pod: Object, node: str) -> None:
        metadata = pod["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": metadata["name"], "uid": metadata["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        await self._unless_gone(
            self._client.post(f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/binding", body)
        )
        # Until the watch brings it, so that the next pod is placed with this one in mind.
        pod["spec"]["nodeName"] = node

    async def _unschedulable(self, pod: Object) -> None:
        known = pod.get("status", {}).get("conditions", [])
        if any(each["type"] == "PodScheduled" and each.get("reason") == "Unschedulable" for each in known):
            return
        total = len(list(self._heard.nodes))
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": f"0/{total} nodes are available: {total} node(s) didn't match Pod's node affinity/selector.",
            "lastTransitionTime": stamp(datetime.now(UTC)),
        }
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        await self._unless_gone(self._client.merge(path, {"status": {"conditions": [*known, condition]}}))

    async def _unless_gone(self, call: Awaitable[Object]) -> None:
        try:
            await call
        except ApiError as error:
            if error.status not in {404, 409}:
                raise
