"""The locks: complete, hashed, and tied to no index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.repository.tree import ROOT, files, project

LOCKS = {"dev": ROOT / "requirements" / "dev.txt", "test": ROOT / "requirements" / "test.txt"}

# Put together here, so that this file does not name one either.
HOSTS = [
    ".".join(labels)
    for labels in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("proxy", "golang", "org"),
        ("crates", "io"),
        ("conda", "anaconda", "org"),
        ("docker", "io"),
        ("rubygems", "org"),
    )
]


def locked(path: Path) -> dict[str, Version]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^ ]+)", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


def direct(extras: list[str], groups: list[str]) -> list[Requirement]:
    """What pyproject.toml asks for by name."""
    tree = project()
    texts: list[str] = list(tree["project"]["dependencies"])
    for extra in extras:
        texts += tree["project"]["optional-dependencies"][extra]
    for group in groups:
        texts += [entry for entry in tree["dependency-groups"][group] if isinstance(entry, str)]
    return [Requirement(text) for text in texts if not text.startswith("putgate[")]


@pytest.mark.parametrize(
    ("lock", "extras", "groups"),
    [
        ("dev", ["api", "daemon", "dev"], ["build"]),
        ("test", ["api", "daemon", "dev", "operator"], ["build", "test"]),
    ],
)
def test_a_lock_holds_every_direct_dependency_in_a_fitting_version(
    lock: str, extras: list[str], groups: list[str]
) -> None:
    versions = locked(LOCKS[lock])
    missing = [
        str(wanted)
        for wanted in direct(extras, groups)
        if (version := versions.get(canonicalize_name(wanted.name))) is None or version not in wanted.specifier
    ]
    assert missing == [], "run `make lock`"


def test_the_test_lock_holds_the_dev_lock() -> None:
    assert locked(LOCKS["dev"]).items() <= locked(LOCKS["test"]).items()


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_is_hashed_and_nothing_names_an_index(lock: str) -> None:
    text = LOCKS[lock].read_text()
    for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block.splitlines()[0]
    assert not re.search(r"^(--|-i |-f )|://| @ ", text, re.MULTILINE)


def test_no_file_names_a_registry() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in files()
        for host in HOSTS
        if host.encode() in path.read_bytes().lower()
    ]
    assert found == []
