from __future__ import annotations

import pytest

from tests.repository.tree import PACKAGES, ROOT, files, project


@pytest.mark.parametrize("folder", PACKAGES)
def test_a_folder_holds_one_package_and_is_none(folder: str) -> None:
    assert sorted(path.name for path in (ROOT / folder).iterdir() if path.name != "__pycache__") == [PACKAGES[folder]]


def test_the_wheel_holds_every_package() -> None:
    named = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(named) == sorted(f"{folder}/{package}" for folder, package in PACKAGES.items())


def test_the_contracts_cover_every_package() -> None:
    assert sorted(project()["tool"]["importlinter"]["root_packages"]) == sorted(PACKAGES.values())


def test_every_folder_of_python_is_a_package() -> None:
    roots = [ROOT / folder / package for folder, package in PACKAGES.items()] + [ROOT / "tests"]
    folders = {path.parent for path in files() if path.suffix == ".py" and any(r in path.parents for r in roots)}
    assert [str(folder.relative_to(ROOT)) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_tests_lie_below_tests() -> None:
    stray = [path for path in files() if path.name.startswith("test_") and ROOT / "tests" not in path.parents]
    assert stray == []


def test_every_package_is_typed() -> None:
    assert all((ROOT / folder / package / "py.typed").is_file() for folder, package in PACKAGES.items())
