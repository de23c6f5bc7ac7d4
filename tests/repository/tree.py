"""The checkout, as the tests of the repository look at it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

LEFT_OUT = {".git", ".venv", ".putgate-dev", "inbox", "dist", "__pycache__"}

PACKAGES = {
    "protocol": "putgate_protocol",
    "storage": "putgate_storage",
    "api": "putgate_api",
    "operator": "putgate_operator",
    "daemon": "putgate_daemon",
    "client": "putgate",
}


def files() -> Iterator[Path]:
    """Every file that is kept, without what tools and programs leave behind."""
    yield from _below(ROOT)


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in LEFT_OUT or path.name.endswith("_cache") or path.name == ".hypothesis":
            continue
        if path.is_dir():
            yield from _below(path)
        elif path.is_file():
            yield path


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())
