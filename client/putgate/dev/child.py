"""One program that `putgate dev` runs: started, listened to, stopped."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from putgate.dev.errors import DevError

PATIENCE = 15.0
"""Seconds for a program to end by itself before it is killed."""

LAST_LINES = 15
"""How much of a program's log is shown when it has failed."""

LINE_LIMIT = 1024 * 1024
"""The longest line of a log in bytes; longer ones are cut into several."""


class Child:
    """A program in a session of its own: Ctrl-C reaches `putgate dev` alone, which stops its children in order."""

    def __init__(self, name: str, log: Path, process: asyncio.subprocess.Process, patience: float) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._patience = patience
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        follow: Callable[[str], None] | None = None,
        patience: float = PATIENCE,
    ) -> Self:
        """`follow` hears each line of the program's output, which also goes to `log`. `patience`: how many seconds it
        may take to end when it is asked to.
        """
        process = await asyncio.create_subprocess_exec(
            *_tied(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env=_environment(),
        )
        child = cls(name, log, process, patience)
        child._reading = asyncio.create_task(child._read(follow))
        return child

    async def _read(self, follow: Callable[[str], None] | None) -> None:
        assert self._process.stdout is not None
        rest = b""
        with self.log.open("ab", buffering=0) as log:
            while data := await self._process.stdout.read(LINE_LIMIT):
                log.write(data)
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._heard(line, follow)
                rest = rest[:LINE_LIMIT]
        if rest:
            self._heard(rest, follow)

    def _heard(self, line: bytes, follow: Callable[[str], None] | None) -> None:
        text = line.decode(errors="replace").rstrip()
        self._last.append(text)
        if follow is not None:
            follow(text)

    async def ended(self) -> str:
        """Wait until it ends; answers how."""
        code = await self._process.wait()
        await self._read_all()
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    async def _read_all(self) -> None:
        if self._reading is not None:
            await asyncio.shield(self._reading)

    def failure(self, what: str) -> DevError:
        """An error that says what is wrong with this program, in its own last words."""
        last = "\n".join(f"  {line}" for line in self._last) or "  (it said nothing)"
        return DevError(f"{self.name} {what}. The end of {self.log}:\n{last}")

    async def stop(self) -> None:
        """Ask it to end; kill it when it does not."""
        for ask in (self._process.terminate, self._process.kill):
            with suppress(ProcessLookupError):  # it has just ended by itself
                ask()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await self.ended()
                    return

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()


def _tied(command: Sequence[str]) -> list[str]:
    """End with `putgate dev` even when that is killed: nothing is left behind that works on the same data. All of these
    programs are made to survive the same.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *command] if setpriv else list(command)


def _environment() -> dict[str, str]:
    """Without Putgate's own variables: they would override the settings that were written for these programs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PUTGATE_")}
