"""What a client refuses before it calls anybody."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import putgate
from putgate.client import CALLS


@pytest.mark.parametrize("url", ["", "x", "ftp://x", "http://", "http://[::1", "http://h:99999"])
def test_a_url_that_cannot_be_called(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        putgate.Client(url)


@pytest.mark.parametrize("url", ["http://user:secret@host", "http://host/?token=secret", "http://host#secret"])
def test_a_url_that_holds_a_secret_is_refused_without_it(url: str) -> None:
    with pytest.raises(ValueError, match="has no user, password, query or fragment") as caught:
        putgate.Client(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("token", ["", "two\nlines", "a b", "tökén"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="one line") as refused:
        putgate.Client("http://localhost", token=token)
    assert not token or token not in str(refused.value)


async def test_calls_wait_for_a_connection_rather_than_take_more() -> None:
    """Thousands of files may want to be declared at once, and a process has a thousand descriptors."""
    under_way = 0
    most, over = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        nonlocal under_way
        if request.path == "/elsewhere":
            return web.Response()
        under_way += 1
        if under_way >= CALLS:
            most.set()
        await over.wait()
        return web.Response(headers={"X-Putgate-Size": "1"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server, putgate.Client(str(server.make_url(""))) as client:
        asked = [asyncio.create_task(client.stat(f"{number}")) for number in range(3 * CALLS)]
        await most.wait()
        async with aiohttp.ClientSession() as other, other.get(server.make_url("/elsewhere")):
            # It came after all that the client has begun.
            assert under_way == CALLS
        over.set()
        await asyncio.gather(*asked)
    assert under_way == 3 * CALLS
