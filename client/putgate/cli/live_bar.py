"""A live bar of bytes on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from putgate.cli.render import human


class LiveBar:
    """On standard error, which must be a terminal. `total`: None where nobody knows yet."""

    def __init__(self, what: str, total: int | None) -> None:
        # A long name gives way, the figures do not.
        name = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=name),
            BarColumn(bar_width=20),
            DownloadColumn(binary_units=True),
            _Speed(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            # Lines printed meanwhile appear above the bar; what goes to a pipe must stay in it.
            redirect_stdout=sys.stdout.isatty(),
            transient=True,
            expand=True,
        )
        self._task: TaskID = self._progress.add_task(what, total=total)

    def advance(self, count: int) -> None:
        self._progress.advance(self._task, count)

    def total(self, total: int) -> None:
        self._progress.update(self._task, total=total)

    def describe(self, what: str) -> None:
        self._progress.update(self._task, description=what)

    @contextmanager
    def shown(self) -> Iterator[None]:
        with self._progress:
            yield


class _Speed(ProgressColumn):
    """In the units of all other sizes; rich's own has powers of ten only."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{human(int(speed))}/s", style="progress.data.speed", justify="right")
