"""Says of pods that they run, and runs nothing: for tests that are about objects, or about hundreds of them."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from datetime import UTC, datetime
from typing import Any, Self

import aiohttp
import yaml

from tests.servers.kube.control_plane import ControlPlane

NODE = "light"


class LightNodes:
    """`with LightNodes(plane):` every pod is bound to one node and shown as ready; one that is deleted goes at once.

    `stuck`: (namespace, UploadBucket, image) whose pods never run.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="light-nodes")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main_task: asyncio.Task[None] | None = None
        self._started = threading.Event()
        self.failure: BaseException | None = None
        self.stuck: set[tuple[str, str, str]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(120)
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._main_task is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._main_task.cancel)
        self._thread.join(60)
        if self.failure is not None:
            raise self.failure

    async def _main(self) -> None:
        self._loop, self._main_task = asyncio.get_running_loop(), asyncio.current_task()
        context = ssl.create_default_context(cafile=str(self._plane.ca_file))
        user = yaml.safe_load(self._plane.node_kubeconfig.read_text())["users"][0]["user"]
        headers = {"Authorization": f"Bearer {user['token']}"}
        try:
            async with aiohttp.ClientSession(
                self._plane.url, headers=headers, connector=aiohttp.TCPConnector(ssl=context, limit=16)
            ) as http:
                await http.post("/api/v1/nodes", json=_node())
                self._started.set()
                while True:
                    await self._watch(http)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 (raised again where the test leaves the block)
            self.failure = error
            self._started.set()

    async def _watch(self, http: aiohttp.ClientSession) -> None:
        """One list and one watch, until the server ends it or cannot be reached."""
        try:
            async with http.get("/api/v1/pods") as answer:
                answer.raise_for_status()
                listed = await answer.json()
            for pod in listed.get("items", ()):
                await self._seen(http, pod)
            query = {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"], "timeoutSeconds": "300"}
            async with http.get("/api/v1/pods", params=query, timeout=aiohttp.ClientTimeout(total=None)) as stream:
                buffer = b""
                async for piece in stream.content.iter_any():
                    *lines, buffer = (buffer + piece).split(b"\n")
                    for line in lines:
                        event = json.loads(line)
                        if event["type"] in ("ADDED", "MODIFIED"):
                            await self._seen(http, event["object"])
        except aiohttp.ClientError:
            await asyncio.sleep(0.2)

    async def _seen(self, http: aiohttp.ClientSession, pod: dict[str, Any]) -> None:
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        if pod["metadata"].get("deletionTimestamp"):
            await _done(await http.delete(path, json={"gracePeriodSeconds": 0}))
        elif not pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            name = {"name": pod["metadata"]["name"]}
            body = {"apiVersion": "v1", "kind": "Binding", "metadata": name, "target": target}
            await _done(await http.post(f"{path}/binding", json=body))
        elif pod.get("status", {}).get("phase") != "Running" and not self._is_stuck(pod):
            await _done(
                await http.patch(
                    f"{path}/status",
                    json={"status": _running(pod)},
                    headers={"Content-Type": "application/strategic-merge-patch+json"},
                )
            )

    def _is_stuck(self, pod: dict[str, Any]) -> bool:
        """Stuck pods stay as they are bound: pending."""
        owner = (pod["metadata"].get("labels") or {}).get("putgate.io/uploadbucket", "")
        return (pod["metadata"]["namespace"], owner, pod["spec"]["containers"][0]["image"]) in self.stuck


async def _done(answer: aiohttp.ClientResponse) -> None:
    """Gone, or changed meanwhile, is a later event's matter; a server in trouble is asked again, after another list.
    Anything else is a mistake of the stand-in.
    """
    async with answer:
        if answer.status == 429 or answer.status >= 500:
            answer.raise_for_status()
        if answer.status not in (200, 201, 202, 404, 409):
            raise RuntimeError(f"HTTP {answer.status}: {(await answer.text())[:500]}")


def _node() -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}


def _running(pod: dict[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    return {
        "phase": "Running",
        "startTime": now,
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds],
        "containerStatuses": [
            {
                "name": container["name"],
                "ready": True,
                "started": True,
                "restartCount": 0,
                "image": container["image"],
                "imageID": "",
                "state": {"running": {"startedAt": now}},
            }
            for container in pod["spec"]["containers"]
        ],
    }
