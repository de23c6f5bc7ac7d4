"""What is uploaded, and when: each workload is a few steps that every tool goes through, on its own names."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.servers.proxy import StoreProxy

from benchmarks.transfers.timing import Run, Traffic, run, run_and_kill
from benchmarks.transfers.tools import Target, Tool, environment

PART = 8 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`small`: files of 4 KiB. `medium`: files of 1 MiB. `large`: parts of 8 MiB of the large file."""

    small: int = 5000
    medium: int = 200
    large: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One tool's turn. `folder`: for what it must not share with another turn. `counter`: what the store's calls go
    through in the round that counts them.
    """

    tool: Tool
    target: Target
    folder: Path
    prefix: str
    servers: dict[str, int]
    counter: StoreProxy | None = None

    def run(self, command: list[str]) -> Run:
        # Nothing that was written before may be on its way to the disk while this one is timed.
        os.sync()
        if self.counter is not None:
            self.counter.reset()
        done = run(command, environment(self.folder / "home", self.target), self.servers)
        return done if self.counter is None else replace(done, traffic=traffic(self.counter))

    def kill(self, command: list[str], after: float) -> None:
        run_and_kill(command, environment(self.folder / "home", self.target), after)


def traffic(counter: StoreProxy) -> Traffic:
    sent = sum(call.body_bytes for call in counter.requests)
    return Traffic(calls=dict(sorted(counter.counts.items())), sent_bytes=sent)


Steps = Iterator[tuple[str, Run]]
Workload = Callable[[Stage, Path], Steps]


def small_files(stage: Stage, source: Path) -> Steps:
    command = stage.tool.tree(source, f"{stage.prefix}/tree", stage.target)
    yield "small cold", stage.run(command)
    yield "small unchanged", stage.run(command)


def duplicate_tree(stage: Stage, source: Path) -> Steps:
    yield "tree cold", stage.run(stage.tool.tree(source, f"{stage.prefix}/one", stage.target))
    yield "tree under another name", stage.run(stage.tool.tree(source, f"{stage.prefix}/two", stage.target))


def large_file(stage: Stage, source: Path) -> Steps:
    own = stage.folder / source.name
    shutil.copyfile(source, own)
    command = stage.tool.file(own, f"{stage.prefix}/one/{own.name}", stage.target)
    cold = stage.run(command)
    yield "large cold", cold
    yield "large unchanged", stage.run(command)
    other = stage.tool.file(own, f"{stage.prefix}/two/{own.name}", stage.target)
    yield "large under another name", stage.run(other)
    with own.open("r+b") as file:
        file.seek(own.stat().st_size // 2)
        file.write(b"changed")
    yield "large with one part changed", stage.run(command)
    fill(own, own.stat().st_size, seed=f"{stage.prefix} {stage.tool.name}")
    last = stage.tool.file(own, f"{stage.prefix}/three/{own.name}", stage.target)
    stage.kill(last, after=cold.seconds / 2)
    yield "large killed half way, the second try", stage.run(last)
    own.unlink()


WORKLOADS: dict[str, Workload] = {"small": small_files, "medium": duplicate_tree, "large": large_file}


def make_source(kind: str, folder: Path, sizes: Sizes) -> Path:
    """The tree or file of a workload; the same bytes at every run."""
    match kind:
        case "small":
            return tree(folder, sizes.small, 4096)
        case "medium":
            return tree(folder, sizes.medium, 1024**2)
        case "large":
            path = folder / "large.bin"
            folder.mkdir()
            fill(path, sizes.large * PART, seed="large")
            return path
        case _:
            raise ValueError(kind)


def tree(folder: Path, files: int, size: int) -> Path:
    for number in range(files):
        path = folder / f"{number % 50:02}" / f"{number:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        fill(path, size, seed=str(path.relative_to(folder)))
    return folder


def fill(path: Path, size: int, *, seed: str) -> None:
    bits = random.Random(hashlib.sha256(seed.encode()).digest())
    with path.open("wb") as file:
        for left in range(size, 0, -PART):
            file.write(bits.randbytes(min(left, PART)))
