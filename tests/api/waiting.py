"""Waiting for what a server does in its own time: asked again until it shows, or a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp

Value = TypeVar("Value")


async def until(ask: Callable[[], Awaitable[Value]], good: Callable[[Value], bool], *, within: float = 60) -> Value:
    """The first answer that is good. A server that is not there yet has not answered."""
    deadline = time.monotonic() + within
    found: object = None
    while time.monotonic() < deadline:
        try:
            answer = await ask()
        except (aiohttp.ClientConnectionError, ConnectionError) as error:
            found = error
        else:
            if good(answer):
                return answer
            found = answer
        await asyncio.sleep(0.05)
    raise TimeoutError(f"after {within} s it was still {found!r}")
