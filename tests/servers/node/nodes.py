"""The Node objects: always ready, roomy, and without a heartbeat."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.servers.node.client import ApiError, Client
from tests.servers.node.network import node_address
from tests.servers.node.states import stamp


async def make_node(client: Client, name: str, number: int) -> None:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    try:
        await client.post("/api/v1/nodes", node)
    except ApiError as error:
        if error.status != 409:
            raise
    now = stamp(datetime.now(UTC))
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "a stand-in runs here",
             "lastHeartbeatTime": now, "lastTransitionTime": now}  # fmt: skip
    room = {"cpu": "64", "memory": "256Gi", "pods": "110"}
    addresses = [
        {"type": "InternalIP", "address": node_address(number)},
        {"type": "Hostname", "address": name},
    ]
    status = {"conditions": [ready], "addresses": addresses, "capacity": room, "allocatable": room}
    await client.merge(f"/api/v1/nodes/{name}/status", {"status": status})
    # The API server taints a new node until somebody says that it is ready; nobody else here does.
    await client.merge(f"/api/v1/nodes/{name}", {"spec": {"taints": None}})
