"""`putgate upload -`: standard input as a file."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import dataclass

import click

from putgate.cli import render
from putgate.cli.bar import bar_of
from putgate.cli.connection import Connection
from putgate.cli.report import Report
from putgate.client import Client, as_name
from putgate.upload.job import Failed, Job
from putgate.upload.prepare import FileError
from putgate.upload.stream import StreamSource
from putgate_protocol.names import Name
from putgate_protocol.problems import NameProblem

STANDARD_INPUT = b"-"
"""As other commands have it; a file of that name is `./-`."""


GIVEN_UP = (
    "interrupted; what was sent is given up, and nothing is stored, unless it was being published just then: see "
    "`putgate stat`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """What the command line says of it. Sizes in bytes."""

    name: Name
    size: int | None
    part_size: int | None
    content_type: str | None
    metadata: Mapping[str, str]
    if_absent: bool
    if_match: str | None


def stream_name(files: tuple[bytes, ...], to: str) -> Name:
    """Of `- NAME`, or `- --to NAME`. Raises `click.UsageError`."""
    names = [*files[1:], *([to.encode("utf-8", "surrogateescape")] if to else [])]
    if files[0] != STANDARD_INPUT or len(names) != 1 or names[0].endswith(b"/"):
        raise click.UsageError("standard input is uploaded alone, under one name: putgate upload - NAME")
    try:
        return as_name(names[0])
    except NameProblem as error:
        raise click.UsageError(error.detail) from None


async def upload_stdin(connection: Connection, wanted: Streamed, *, as_json: bool) -> int:
    """The exit code. Ctrl-C and SIGTERM give the upload up."""
    render.note_waiting()
    bar = bar_of(str(wanted.name), wanted.size, quiet=as_json)
    report = Report(bar=bar, as_json=as_json, summary=False)
    _end_on_sigterm()
    async with connection.client() as client:
        with bar.shown():
            await _upload(client, wanted, report)
    return report.end()


def _end_on_sigterm() -> None:
    """SIGTERM ends a stream as Ctrl-C does: what it has sent is given up first. Not by way of SIGINT, which a shell's
    background job ignores.
    """
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def _upload(client: Client, wanted: Streamed, report: Report) -> None:
    # Unbuffered and without a lock: a thread that still reads it must not hold up the end of the program.
    with open(0, "rb", buffering=0, closefd=False) as stdin:  # noqa: ASYNC230 - it is open already
        try:
            done = await client.upload_stream(
                stdin,
                wanted.name,
                size=wanted.size,
                part_size=wanted.part_size,
                content_type=wanted.content_type,
                metadata=wanted.metadata,
                if_absent=wanted.if_absent,
                if_match=wanted.if_match,
                on_bytes=report.sent,
            )
        except FileError as error:
            report.outcome(Failed(job=Job(name=wanted.name, source=StreamSource(stdin)), error=error), b"-", 0)
        else:
            report.outcome(done, STANDARD_INPUT, done.file.size)
