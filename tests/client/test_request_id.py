"""The id of a call: made by the client, the same for all its tries, and part of what people read of its failure."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
import pytest
from aiohttp import web

from putgate.errors import Unreachable
from putgate.options import Options
from putgate.wire import Wire
from putgate_protocol.problems import Problem

Scripted = tuple[int, dict[str, object]]


class Server:
    """Answers each call as `script` says, the last one for ever; `seen` are the ids that came."""

    def __init__(self) -> None:
        self.script: list[Scripted] = []
        self.seen: list[str] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append(request.headers["X-Request-Id"])
        status, body = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return web.json_response(body, status=status)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", served.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


def busy(code: str, status: int) -> Scripted:
    return status, {"code": code, "detail": "later", "retry_after": 0.2}


@pytest.mark.parametrize(("code", "status"), [("rate_limited", 429), ("too_many_uploads", 429), ("not_ready", 503)])
async def test_a_call_that_is_put_off_is_tried_again_after_the_wait_under_one_id(
    server: Server, code: str, status: int
) -> None:
    limits: dict[str, object] = {
        "hash_algorithm": "sha256",
        "part_size": 8388608,
        "max_parts": 10000,
        "max_object_size": 1,
        "max_signed_parts": 1,
        "put_max_size": 0,
        "instant_min_size": 1,
        "requires_md5": False,
    }
    server.script = [busy(code, status), busy(code, status), (200, limits)]
    async with aiohttp.ClientSession() as http:
        assert (await Wire(http, server.url, None, Options()).part_limit()).part_size == 8388608
    assert len(server.seen) == 3
    assert len(set(server.seen)) == 1
    assert re.fullmatch("[0-9a-f]{32}", server.seen[0])


async def test_problems_tell_the_request(server: Server) -> None:
    server.script = [(403, {"code": "forbidden", "detail": "no"})]
    async with aiohttp.ClientSession() as http:
        with pytest.raises(Problem) as raised:
            await Wire(http, server.url, None, Options()).part_limit()
    assert str(raised.value) == f"no (forbidden) (request {server.seen[0]})"


async def test_a_lost_connection_tells_the_request() -> None:
    async with aiohttp.ClientSession() as http:
        wire = Wire(http, "http://127.0.0.1:1", None, Options(give_up_after=timedelta(0)))
        with pytest.raises(Unreachable, match=r"\(request [0-9a-f]{32}\)$"):
            await wire.part_limit()
