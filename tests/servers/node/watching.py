"""What the cluster holds, as it was last heard: one list and one watch for each kind, begun again when they break."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

import aiohttp

from tests.servers.node.client import ApiError, Client, Object

Key = tuple[str, str]
"""Namespace (empty for what has none) and name."""

AGAIN_AFTER = 0.2
GONE = 410

log = logging.getLogger(__name__)


class Kind:
    """All objects of one kind. `changed` is called after each change, with the key."""

    def __init__(self, path: str, changed: Callable[[Key], None]) -> None:
        self.path = path
        self.heard = asyncio.Event()
        self._changed = changed
        self._objects: dict[Key, Object] = {}

    def get(self, namespace: str, name: str) -> Object | None:
        return self._objects.get((namespace, name))

    def __iter__(self) -> Iterator[Object]:
        return iter(list(self._objects.values()))

    def within(self, namespace: str) -> list[Object]:
        return [each for (where, _), each in self._objects.items() if where == namespace]

    async def follow(self, client: Client) -> None:
        """Never returns. A server that is away is asked again until it is back."""
        while True:
            try:
                await self._follow_once(client)
            except (aiohttp.ClientError, TimeoutError, ApiError) as error:
                log.info("the watch of %s begins again: %s", self.path, str(error) or type(error).__name__)
                await asyncio.sleep(AGAIN_AFTER)

    async def _follow_once(self, client: Client) -> None:
        listed = await client.get(self.path)
        self._replace(listed["items"])
        self.heard.set()
        version = listed["metadata"]["resourceVersion"]
        while True:
            async for event in client.watch(self.path, version):
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", GONE), event["object"].get("message", ""))
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._set(key_of(event["object"]), event["object"] if event["type"] != "DELETED" else None)

    def _replace(self, items: list[Object]) -> None:
        fresh = {key_of(each): each for each in items}
        for key in self._objects.keys() - fresh.keys():
            self._set(key, None)
        for key, each in fresh.items():
            self._set(key, each)

    def _set(self, key: Key, value: Object | None) -> None:
        if value is None:
            self._objects.pop(key, None)
        else:
            self._objects[key] = value
        self._changed(key)


def key_of(item: Object) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
