from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.repository.tree import PACKAGES, ROOT, files


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = target.iterdir()
    return zipfile.ZipFile(built)


def test_it_holds_every_module_and_marker(wheel: zipfile.ZipFile) -> None:
    wanted = {
        str(path.relative_to(ROOT / folder))
        for folder, package in PACKAGES.items()
        for path in files()
        if ROOT / folder / package in path.parents and (path.suffix == ".py" or path.name == "py.typed")
    }
    assert wanted <= set(wheel.namelist())


def test_it_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {Path(name).parts[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES.values())


def test_it_starts_the_three_programs(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    lines = wheel.read(entry_points).decode().split()
    assert {"putgate", "putgate-api", "putgate-daemon"} <= set(lines)
