"""Fixtures of the API's tests: a caller who may do everything, and the bucket behind the API's back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from putgate_storage.s3.driver import S3Store
from tests.api.calls import Calls
from tests.api.state import store_of
from tests.servers.api import ApiProcess


@pytest.fixture
def own_api(request: pytest.FixtureRequest) -> ApiProcess:
    """The API of this test: its own where it asks for `api`, else the shared one."""
    name = "api" if "api" in request.fixturenames else "shared_api"
    process = request.getfixturevalue(name)
    assert isinstance(process, ApiProcess)
    return process


@pytest.fixture
async def calls(http: aiohttp.ClientSession, own_api: ApiProcess) -> Calls:
    return Calls(http, own_api.url, own_api.token)


@pytest.fixture
async def store(own_api: ApiProcess) -> AsyncIterator[S3Store]:
    async with store_of(own_api) as opened:
        yield opened
