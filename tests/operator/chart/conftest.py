from __future__ import annotations

import pytest

from tests.servers.kube.control_plane import require_programs


@pytest.fixture(scope="session", autouse=True)
def _programs() -> None:
    """Helm is one of the programs of the control plane."""
    require_programs()
