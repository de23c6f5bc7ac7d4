"""What the documents tell people to type exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository.tree import ROOT

DOCUMENTS = ["README.md", "CONTRIBUTING.md"]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets(document: str) -> None:
    named = set(re.findall(r"(?:^|`)(?:\$ )?make ([a-z-]+)", (ROOT / document).read_text(), re.MULTILINE))
    assert named
    assert named <= targets()


def test_make_says_what_there_is() -> None:
    said = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    shown = set(re.findall(r"^make ([a-z-]+)", said, re.MULTILINE))
    assert {"help", "dev", "test", "check", "bench", "lock"} <= shown <= targets()


def test_relative_links_lead_somewhere() -> None:
    for document in [ROOT / name for name in DOCUMENTS] + sorted((ROOT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_the_plan_of_the_house_names_what_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = re.findall(r"^```\n(protocol/.*?)^```", text, re.DOTALL | re.MULTILINE)
    folder = ROOT
    for line in rooms[0].splitlines():
        if top := re.match(r"(\S+/)\s", line):
            folder = ROOT / top[1]
            assert folder.is_dir(), line
        for inside in re.findall(r"^  (\w+/) ", line):
            assert (folder / inside).is_dir(), line
        for module in re.findall(r"\w+\.py\b", line):
            assert list(folder.rglob(module)), f"{module}: {line}"


def test_every_program_and_command_of_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text()
    for program in ("putgate", "putgate-api", "putgate-daemon"):
        named = set(re.findall(rf"(?:bin/|`){program} ([a-z-]+)", text))
        assert named
        said = subprocess.run(
            [Path(sys.executable).with_name(program), "--help"], capture_output=True, text=True, check=True
        ).stdout
        assert named <= set(re.findall(r"^  ([a-z-]+)", said, re.MULTILINE)), program
