"""What a fuzzed API holds beforehand, so that each call can succeed: files, and uploads in each of their states."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.api.calls import RULE, Calls, declaration
from tests.servers.api import ApiProcess

LARGE = RULE.part_size + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Names of files below `prefix`, and upload ids. `cursor`: of a listing by one; `version`: of `file`."""

    prefix: str
    file: str
    unwanted: str
    version: str
    open: str
    sent: str
    unused: str
    cursor: str


def prepared(api: ApiProcess, prefix: str) -> World:
    return asyncio.run(_prepared(api, prefix))


async def _prepared(api: ApiProcess, prefix: str) -> World:
    async with aiohttp.ClientSession() as http:
        calls = Calls(http, api.url, api.token)
        file = await calls.upload(prefix + "stored/hello.txt", b"hello", content_type="text/plain")
        for name in ("stored/unwanted", "pages/1", "pages/2"):
            await calls.upload(prefix + name, b"x")
        sent, answer = secrets.token_bytes(LARGE), {}
        for name in ("uploads/open", "uploads/unused", "uploads/sent"):
            answer[name] = (await calls.initiate(prefix + name, sent))[1]
        assert await calls.put_parts(answer["uploads/sent"], sent) == [200, 200]
        assert await calls.put_parts({"parts": answer["uploads/open"]["parts"][:1]}, sent) == [200]
        _, page = await calls.list(prefix=prefix + "pages/", limit="1")
        return World(
            prefix=prefix,
            file=prefix + "stored/hello.txt",
            unwanted=prefix + "stored/unwanted",
            version=file["version"],
            open=answer["uploads/open"]["upload_id"],
            sent=answer["uploads/sent"]["upload_id"],
            unused=answer["uploads/unused"]["upload_id"],
            cursor=page["cursor"],
        )


def good(world: World) -> dict[str, list[dict[str, Any]]]:
    """For each operation, requests that succeed. Each is what a case is made of: body, query, path, headers."""
    name = {"path_parameters": {"name": world.file}}
    cached = [{}, {"headers": {"If-None-Match": "*"}}]
    small = declaration(
        world.prefix + "small", b"small", content_type="text/plain", metadata={"a": "b"}, if_absent=True
    )
    return {
        "part_limit": cached,
        "part_limit_by_post": cached,
        "initiate_multipart_upload": [
            {"body": declaration(world.file, b"hello")},
            {"body": declaration(world.file, b"other", if_match=world.version, recheck=1)},
            {"body": small},
            {"body": declaration(world.prefix + "large", bytes(LARGE))},
            {"body": declaration(world.prefix.encode() + b"\xff", b"small", recheck=3)},
            {"body": declaration(world.prefix + "empty", b"")},
        ],
        "auth_sign": [{"body": {"upload_id": world.open, "part_numbers": [1, 2]}}],
        "upload_status": [{"body": {"upload_id": world.open}}],
        "complete_multipart_upload": [{"body": {"upload_id": world.sent}}],
        "abort_multipart_upload": [{"body": {"upload_id": world.unused}}],
        "batch": [
            {"body": {"items": [{"initiate": small}, {"complete": {"upload_id": world.sent}}]}},
            {"body": {"items": [{"complete": {"upload_id": "not one"}}, {"initiate": small | {"size": 1}}]}},
        ],
        "access_url": [{"body": {"name": world.file, "expires_in": 60, "filename": "x.txt", "inline": True}}],
        "list": [
            {},
            {"query": {"prefix": world.prefix + "pages/", "limit": 1, "cursor": world.cursor}},
            {"query": {"delimiter": "/", "limit": 1000}},
        ],
        "download": [name],
        "stat": [name],
        "delete": [{"path_parameters": {"name": world.unwanted}}],
        "openapi": cached,
        "docs": cached,
    }
