"""Fixtures for every test: the real servers, and an HTTP client."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import aiohttp
import pytest

pytest_plugins = [
    "tests.servers.seaweedfs",
    "tests.servers.minio",
    "tests.servers.ceph",
    "tests.servers.moto",
    "tests.servers.proxy",
    "tests.servers.api",
    "tests.servers.chromium",
    "tests.servers.kube.control_plane",
    "tests.servers.node.cluster",
]

# A shell starts what it runs in the background with SIGINT ignored, and so would be every program of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session
