"""How long a command took, and what it cost: its own CPU seconds, and those of servers."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_DEADLINE = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Calls of the store by kind, from whomever (the tool or the API), and the body bytes that were sent to it."""

    calls: Mapping[str, int]
    sent_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Seconds by the clock, and CPU seconds of the command and of each server by name. `traffic`: what the store was
    asked, in the round that counts it and is not timed.
    """

    seconds: float
    cpu: float
    servers: Mapping[str, float]
    traffic: Traffic | None = None


def run(command: Sequence[str], environment: Mapping[str, str], servers: Mapping[str, int]) -> Run:
    """Run it to its end. `servers`: process ids by name. Raises `AssertionError` with its output where it fails."""
    before = {name: cpu_seconds(pid) for name, pid in servers.items()}
    begun = time.monotonic()
    process = begin(command, environment)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.stdout is not None
    assert process.returncode == 0, f"{command[0]} ended with {process.returncode}: {process.stdout.read()[-2000:]!r}"
    process.stdout.close()
    return Run(
        seconds=seconds,
        cpu=used.ru_utime + used.ru_stime,
        servers={name: cpu_seconds(pid) - before[name] for name, pid in servers.items()},
    )


def run_and_kill(command: Sequence[str], environment: Mapping[str, str], after: float) -> None:
    """Run it for so many seconds, then kill it as a lost machine would."""
    process = begin(command, environment)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    else:
        raise AssertionError(f"{command[0]} was done in {after:.1f} s; make the file larger")
    finally:
        assert process.stdout is not None
        process.stdout.close()


def begin(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # Its output goes to a file: nobody reads a pipe while it runs.
    with (Path(environment["HOME"]) / "output.txt").open("w+b") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        process.stdout = (Path(environment["HOME"]) / "output.txt").open("rb")
    return process


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
