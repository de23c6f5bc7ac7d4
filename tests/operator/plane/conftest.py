"""One control plane and one set of pretended nodes for all tests; a namespace and an operator for each."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.operator.plane.operators import CRDS, Home
from tests.operator.plane.rights import StrictControlPlane
from tests.servers.kube.control_plane import ControlPlane, require_programs
from tests.servers.kube.light_nodes import LightNodes


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrictControlPlane]:
    """Another than other tests have: nodes that only pretend and nodes that run pods cannot share one."""
    plane = StrictControlPlane(require_programs(), tmp_path_factory.mktemp("kube-pretended"))
    try:
        plane.start()
        yield plane
    finally:
        plane.kill()


@pytest.fixture(scope="session")
def nodes(control_plane: ControlPlane) -> Iterator[LightNodes]:
    control_plane.kubectl("apply", "--server-side", "-f", str(CRDS))
    control_plane.start_controllers()
    with LightNodes(control_plane) as nodes:
        yield nodes


@pytest.fixture
def new_home(control_plane: StrictControlPlane, nodes: LightNodes, tmp_path: Path) -> Iterator[Callable[[], Home]]:
    homes: list[Home] = []

    def make() -> Home:
        namespace = control_plane.namespace(f"t-{secrets.token_hex(5)}")
        home = Home(plane=control_plane, namespace=namespace, folder=tmp_path)
        homes.append(home)
        return home

    yield make
    for home in homes:
        home.end()
    for home in homes:
        home.check_rights(control_plane.was_starting)


@pytest.fixture
def home(new_home: Callable[[], Home]) -> Home:
    return new_home()
