"""Fixtures for every test: the real servers, and an HTTP client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

pytest_plugins = [
    "tests.servers.seaweedfs",
    "tests.servers.minio",
    "tests.servers.ceph",
    "tests.servers.proxy",
    "tests.servers.api",
    "tests.servers.kube.control_plane",
    "tests.servers.node.cluster",
]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session
