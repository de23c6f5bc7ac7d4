"""The image of the chart: built without a container engine, and started."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.operator.chart import image
from tests.operator.chart.rendering import SETS, rendered
from tests.repository.tree import PACKAGES, project


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image.build(tmp_path_factory.mktemp("image"))


def only(word: str, stage: int) -> list[str]:
    return [instruction.rest for instruction in image.stages()[stage] if instruction.word == word]


def test_nothing_secret_and_nothing_superfluous_reaches_the_build() -> None:
    for path in (
        ".git/config",
        ".venv/bin/python",
        "tests/conftest.py",
        "docs/wire.md",
        "api/x/__pycache__/y.pyc",
        ".env",
    ):
        assert image.ignored(path), path
    copied = {source for rest in only("COPY", 0) for source in rest.split()[:-1]}
    for source in copied:
        assert (image.ROOT / source).exists(), source
        assert not image.ignored(source), source
    assert set(PACKAGES) <= copied


def test_it_runs_as_nobody_by_number() -> None:
    assert only("USER", -1) == ["65532:65532"]
    assert only("RUN", -1) == []


def test_only_hashed_files_are_fetched() -> None:
    installs = [rest for rest in only("RUN", 0) if re.search(r"pip (install|download)", rest)]
    assert [("--require-hashes" in rest) != ("--no-index" in rest) for rest in installs] == [True, True, True]


@pytest.mark.slow
def test_every_program_starts_from_it(programs: Path, tmp_path: Path) -> None:
    for program in project()["project"]["scripts"]:
        done = subprocess.run(
            [programs / program, "--help"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=tmp_path,
            env={"PATH": str(programs), "HOME": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        assert "Usage:" in done.stdout


@pytest.mark.slow
def test_the_commands_of_the_chart_are_in_it(programs: Path) -> None:
    for values in SETS.values():
        for (kind, _, _), each in rendered(values).items():
            spec = {"Deployment": lambda o: o["spec"]["template"]["spec"], "Pod": lambda o: o["spec"]}.get(kind)
            for container in spec(each)["containers"] if spec else ():
                assert (programs / container["command"][0]).is_file()


@pytest.mark.slow
def test_it_holds_no_tools(programs: Path) -> None:
    assert not (programs / "pip").exists()
    found = subprocess.run(
        [
            programs / "python",
            "-c",
            "import importlib.util as u; print([m for m in ('pip', 'hatchling', 'pytest') if u.find_spec(m)])",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert found.stdout.strip() == "[]"
