"""Each program starts with its own extra alone, and the client with none."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.repository.tree import project

BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Block())
"""


def closure(requirements: list[str]) -> set[str]:
    """The distributions that these requirements bring, all the way down."""
    found: set[str] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        wanted = todo.pop()
        if canonicalize_name(wanted.name) in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        found.add(canonicalize_name(wanted.name))
        todo += [Requirement(text) for text in importlib.metadata.requires(wanted.name) or []]
    return found


def foreign_modules(extras: list[str]) -> set[str]:
    """The installed modules that an installation with these extras would lack."""
    tree = project()["project"]
    own = closure(tree["dependencies"] + [r for extra in extras for r in tree["optional-dependencies"][extra]])
    return {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & (own | {"putgate"})
    }


def run(code: str, extras: list[str]) -> subprocess.CompletedProcess[str]:
    blocked = foreign_modules(extras)
    assert ("botocore" in blocked) == ("api" not in extras)  # the sieve holds something back
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCK.format(blocked=blocked) + code],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("module", "extras"),
    [
        ("putgate", []),
        ("putgate.dev", []),
        ("putgate_protocol.settings.api", []),
        ("putgate_protocol.settings.daemon", []),
        ("putgate_api.cli", ["api"]),
        ("putgate_daemon.cli", ["daemon"]),
    ],
)
def test_imports(module: str, extras: list[str]) -> None:
    found = run(f"import {module}", extras)
    assert found.returncode == 0, found.stderr


def test_the_command_runs_without_extras() -> None:
    found = run("from putgate.cli.main import main\nsys.argv = ['putgate', '--help']\nmain()", [])
    assert found.returncode == 0, found.stderr
    assert "upload" in found.stdout
