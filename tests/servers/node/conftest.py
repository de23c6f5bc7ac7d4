"""A namespace for each test of the stand-in, named after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.node.cluster import Cluster
from tests.servers.node.looking import Looker


@pytest.fixture
def look(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Looker]:
    name = request.node.name.removeprefix("test_").replace("_", "-")[:50].strip("-")
    yield Looker(cluster, cluster.control_plane.namespace(name))
    cluster.control_plane.kubectl("delete", "namespace", name, "--wait=false")
