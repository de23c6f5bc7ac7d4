"""The Dockerfile without a container engine: its instructions, and its build stage carried out in a folder."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "Dockerfile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    word: str
    rest: str


def stages() -> list[list[Instruction]]:
    """Instructions of each stage, its `FROM` first; what stands before the first `FROM` is left out."""
    found: list[list[Instruction]] = []
    for instruction in _instructions(DOCKERFILE.read_text()):
        if instruction.word == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield Instruction(word=word.upper(), rest=rest.strip())


def ignored(path: str) -> bool:
    """Whether `.dockerignore` keeps a file of the repository from the build; the last line that fits decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!")
        if pattern and not pattern.startswith("#") and _fits(path, pattern):
            verdict = not line.startswith("!")
    return verdict


def _fits(path: str, pattern: str) -> bool:
    steps = path.split("/")
    if pattern.startswith("**/"):
        return any(fnmatch(step, pattern[3:]) for step in steps)
    return any(fnmatch("/".join(steps[:depth]), pattern) for depth in range(1, len(steps) + 1))


def build(folder: Path) -> Path:
    """Carry out the build stage below `folder`, whose absolute paths lie there too. Where the programs are then."""
    work = folder / "src"
    work.mkdir(parents=True)
    variables: dict[str, str] = {}
    for instruction in stages()[0]:
        match instruction.word:
            case "ARG":
                name, _, value = instruction.rest.partition("=")
                variables[name] = str(folder) + value if value.startswith("/") else value
            case "ENV":
                variables |= dict(pair.split("=", 1) for pair in shlex.split(instruction.rest))
            case "COPY":
                _copy(instruction.rest, work)
            case "RUN":
                _run(instruction.rest, work, variables)
            case "FROM" | "WORKDIR":
                pass
            case other:
                raise ValueError(f"{other} is not known here")
    return Path(variables["PREFIX"]) / "bin"


def _copy(arguments: str, work: Path) -> None:
    *sources, target = shlex.split(arguments)
    for source in sources:
        whole = ROOT / source
        files = [path for path in whole.rglob("*") if path.is_file()] if whole.is_dir() else [whole]
        for path in files:
            if ignored(str(path.relative_to(ROOT))):
                continue
            inside = path.relative_to(whole) if whole.is_dir() else Path(path.name)
            (work / target / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, work / target / inside)


def _run(command: str, work: Path, variables: dict[str, str]) -> None:
    """As a shell of the image would, with its Python first on the path."""
    python = Path(sys.base_prefix) / "bin"
    kept = {name: value for name, value in os.environ.items() if re.fullmatch(r"PIP_.*|.*_(proxy|PROXY)|HOME", name)}
    done = subprocess.run(
        ["/bin/sh", "-ec", command],
        cwd=work,
        env={**kept, "PATH": f"{python}:{os.environ['PATH']}", **variables},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"RUN {command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
