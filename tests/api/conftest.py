"""Fixtures of the API's tests: a caller who may do everything."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.api.calls import Calls
from tests.servers.api import ApiProcess


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def calls(http: aiohttp.ClientSession, api: ApiProcess) -> Calls:
    return Calls(http, api.url, api.token)
