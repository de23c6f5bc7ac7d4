"""Events: what a kubelet tells people about a pod."""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime
from typing import Literal

import aiohttp

from tests.servers.node.client import ApiError, Client, Object
from tests.servers.node.states import stamp

log = logging.getLogger(__name__)


class Teller:
    """Tells each thing about a pod once."""

    def __init__(self, client: Client, pod: Object) -> None:
        self._client = client
        self._pod = pod["metadata"]
        self._told: set[tuple[str, str]] = set()

    async def tell(self, reason: str, message: str, kind: Literal["Normal", "Warning"] = "Warning") -> None:
        if (reason, message) in self._told:
            return
        self._told.add((reason, message))
        now, namespace = stamp(datetime.now(UTC)), self._pod["namespace"]
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": namespace, "name": f"{self._pod['name']}.{secrets.token_hex(8)}"},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": self._pod["name"],
                               "uid": self._pod["uid"]},
            "reason": reason,
            "message": message,
            "type": kind,
            "source": {"component": "kubelet"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }  # fmt: skip
        try:
            await self._client.post(f"/api/v1/namespaces/{namespace}/events", event)
        except (ApiError, aiohttp.ClientError, TimeoutError) as error:
            # As on a node, an event is news and not a record: a namespace that ends takes none.
            log.info("no event %s for %s/%s: %s", reason, namespace, self._pod["name"], error)
