"""Fixtures for every test: the real servers."""

from __future__ import annotations

pytest_plugins = ["tests.servers.seaweedfs", "tests.servers.proxy", "tests.servers.api"]
