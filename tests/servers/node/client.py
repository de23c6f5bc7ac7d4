"""The API server over HTTP: the few calls that a node makes. Plain dictionaries, since a kubelet's stand-in reads many
kinds and few fields of each. It retries nothing; a watch that ends is its caller's to begin again.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml

Object = dict[str, Any]

CALL_WITHIN = aiohttp.ClientTimeout(total=15)
WATCH_SECONDS = 300
WATCH_WITHIN = aiohttp.ClientTimeout(total=None, sock_connect=10)


class ApiError(Exception):
    """The API server said no. `status`: its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Client:
    """`async with Client.from_kubeconfig(path, url)`; `url` replaces the address that the file names."""

    def __init__(self, url: str, token: str, ca: str) -> None:
        self._url = url
        context = ssl.create_default_context(cadata=ca)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
            headers={"Authorization": f"Bearer {token}", "User-Agent": "node-stand-in"},
        )

    @classmethod
    def from_kubeconfig(cls, path: Path, url: str) -> Client:
        config = yaml.safe_load(path.read_text())
        ca = Path(config["clusters"][0]["cluster"]["certificate-authority"]).read_text()
        return cls(url, config["users"][0]["user"]["token"], ca)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str, **query: str) -> Object:
        return await self._call("GET", path, query=query)

    async def post(self, path: str, body: Object) -> Object:
        return await self._call("POST", path, body)

    async def merge(self, path: str, body: Object) -> Object:
        return await self._call("PATCH", path, body, kind="application/merge-patch+json")

    async def delete(self, path: str, body: Object) -> Object:
        return await self._call("DELETE", path, body)

    async def watch(self, path: str, version: str) -> AsyncIterator[Object]:
        """Events after `version`, one a line. Ends when the server ends it."""
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "1",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        async with self._session.get(self._url + path, params=query, timeout=WATCH_WITHIN) as answer:
            await _raise_for_status(answer)
            # Not by aiohttp's lines: an object may be longer than they may.
            buffer = bytearray()
            async for chunk in answer.content.iter_any():
                buffer += chunk
                while (end := buffer.find(b"\n")) >= 0:
                    yield json.loads(buffer[:end])
                    del buffer[: end + 1]

    async def _call(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        kind: str = "application/json",
        query: dict[str, str] | None = None,
    ) -> Object:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": kind} if body is not None else {}
        async with self._session.request(
            method, self._url + path, data=data, params=query, headers=headers, timeout=CALL_WITHIN
        ) as answer:
            await _raise_for_status(answer)
            parsed: Object = await answer.json()
            return parsed


async def _raise_for_status(answer: aiohttp.ClientResponse) -> None:
    if answer.status >= 400:
        text = await answer.text()
        try:
            message = str(json.loads(text)["message"])
        except (ValueError, KeyError, TypeError):
            message = text[:200]
        raise ApiError(answer.status, message)
