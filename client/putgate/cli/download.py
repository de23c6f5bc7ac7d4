"""`putgate download`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

import click

from putgate.cli import render
from putgate.cli.bar import bar_of
from putgate.cli.connection import Connection, with_connection
from putgate.cli.exits import EPILOG, OK, complain, run, shown
from putgate.client import as_name
from putgate_protocol.messages.base import File
from putgate_protocol.names import Name
from putgate_protocol.problems import NameProblem

STANDARD_OUTPUT = b"-"
"""As other commands have it; a file of that name is `./-`."""


@click.command("download", epilog=EPILOG)
@click.argument("name")
@click.argument("target", required=False, type=click.Path(path_type=bytes))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@with_connection
def download(connection: Connection, *, name: str, target: bytes | None, as_json: bool) -> None:
    """Download the file NAME to TARGET: a path, or a folder that exists (default: the current one).

    TARGET appears, or is replaced, only when all of it has arrived and was found to be what was stored. A file that
    another tool has stored has no hash; it is checked by its size and version, and that is said. A download that was
    interrupted, even by a crash, goes on where it stopped when the same command is given again.

    With `-` as TARGET the bytes go to standard output, in order; that they were wrong is then known only at the end,
    by the exit code.
    """
    wanted = parsed(name)
    if target == STANDARD_OUTPUT:
        if as_json:
            raise click.UsageError("--json would mix with the bytes of the file on standard output")
        run(_pour(connection, wanted))
    path = Path(os.fsdecode(target or b"."))
    if path.is_dir():
        path = path / os.fsdecode(wanted.raw.rpartition(b"/")[2])
    run(_download(connection, wanted, path, as_json=as_json))


def parsed(name: str) -> Name:
    """Raises `click.UsageError`."""
    try:
        return as_name(name)
    except NameProblem as error:
        raise click.UsageError(error.detail) from None


async def _download(connection: Connection, name: Name, path: Path, *, as_json: bool) -> int:
    file = await _fetched(connection, name, path, quiet=as_json)
    if as_json:
        render.emit({**file.to_wire(), "path": os.fsdecode(path), "verified": file.file_hash is not None})
    else:
        print(f"downloaded  {name}  to {shown(os.fsencode(path))}  ({render.human(file.size)})")
    return OK


async def _pour(connection: Connection, name: Name) -> int:
    await _fetched(connection, name, sys.stdout.buffer, quiet=False)
    return OK


async def _fetched(connection: Connection, name: Name, target: Path | BinaryIO, *, quiet: bool) -> File:
    render.note_waiting()
    async with connection.client() as client:
        bar = bar_of(str(name), (await client.stat(name)).size, quiet=quiet)
        with bar.shown():
            file = await client.download(name, target, on_bytes=bar.advance)
    if file.file_hash is None:
        complain("not verified: another tool has stored it, so there is no hash; its size and version are right", name)
    return file
