"""A bare client for tests: it sends what a test says, and executes signed parts as they stand."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import yarl

from putgate_protocol.digests import FileHash, Md5, PartHash
from putgate_protocol.names import Name
from putgate_protocol.parts import PartRule

RULE = PartRule(part_size=8 * 1024 * 1024, max_parts=10_000)


def declaration(name: bytes | str, data: bytes, **more: Any) -> dict[str, Any]:
    """The body of an initiate for these bytes."""
    raw = name.encode() if isinstance(name, str) else name
    plan = RULE.plan(len(data))
    parts = [PartHash.of(data[part.offset : part.offset + part.length]) for part in plan]
    return {
        **Name(raw).to_wire(),
        "size": len(data),
        "part_size": plan.part_size,
        "file_hash": str(FileHash.of(parts)),
        "parts": [str(part) for part in parts],
    } | more


def md5s(data: bytes) -> list[str]:
    """What an initiate gives beside its parts where the store checks MD5s only."""
    return [str(Md5.of(data[part.offset : part.offset + part.length])) for part in RULE.plan(len(data))]


class Calls:
    """The API's calls with one token; every answer is `(status, body)`."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str | None) -> None:
        self.http = http
        self.url = url
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def post(self, call: str, body: Any) -> tuple[int, dict[str, Any]]:
        async with self.http.post(f"{self.url}/object/{call}", json=body, headers=self.headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def initiate(self, name: bytes | str, data: bytes, **more: Any) -> tuple[int, dict[str, Any]]:
        return await self.post("initiate_multipart_upload", declaration(name, data, **more))

    async def file(
        self, method: str, name: bytes | str, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """A call of `/files/{name}`; redirects are not followed."""
        raw = name.encode() if isinstance(name, str) else name
        quoted = "".join(chr(b) if (chr(b).isalnum() and b < 128) or chr(b) in "/-._~" else f"%{b:02X}" for b in raw)
        url = yarl.URL(f"{self.url}/files/{quoted}", encoded=True)
        async with self.http.request(
            method, url, headers={**self.headers, **(headers or {})}, allow_redirects=False
        ) as answer:
            return answer.status, answer.headers, await answer.read()

    async def list(self, **query: str) -> tuple[int, dict[str, Any]]:
        async with self.http.get(f"{self.url}/files", params=query, headers=self.headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def send(
        self,
        part: Mapping[str, Any],
        body: bytes,
        *,
        method: str | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> int:
        """Execute a signed part with these bytes, as its holder would; the store's status."""
        async with self.http.request(
            method or part["method"],
            yarl.URL(part["url"], encoded=True),
            headers={**part["headers"], **(extra or {})},
            data=io.BytesIO(body),
            skip_auto_headers=("Content-Type", "Accept", "Accept-Encoding", "User-Agent"),
        ) as answer:
            await answer.read()
            return answer.status

    async def put_parts(self, answer: Mapping[str, Any], data: bytes) -> list[int]:
        return [await self.send(part, _slice(part, data)) for part in answer["parts"]]

    async def download(self, name: bytes | str) -> bytes:
        status, headers, _ = await self.file("GET", name)
        assert status == 302
        async with self.http.get(yarl.URL(headers["Location"], encoded=True)) as answer:
            assert answer.status == 200
            return await answer.read()

    async def upload(self, name: bytes | str, data: bytes, **more: Any) -> dict[str, Any]:
        """The whole way of one file; the file as the API answers it."""
        status, answer = await self.initiate(name, data, **more)
        assert status == 200, answer
        if answer["status"] == "exists":
            return answer["file"]
        assert all(code == 200 for code in await self.put_parts(answer, data))
        status, done = await self.post("complete_multipart_upload", {"upload_id": answer["upload_id"]})
        assert status == 200, done
        assert done["status"] == "complete"
        return done["file"]


def _slice(part: Mapping[str, Any], data: bytes) -> bytes:
    return data[part["offset"] : part["offset"] + part["length"]]


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def codes(results: Sequence[Mapping[str, Any]]) -> list[int]:
    return [result["status"] for result in results]
