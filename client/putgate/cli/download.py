"""`putgate download`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from putgate.cli import render
from putgate.cli.connection import Connection, with_connection
from putgate.cli.exits import EPILOG, OK, run, shown
from putgate.client import as_name
from putgate_protocol.names import Name
from putgate_protocol.problems import NameProblem


@click.command("download", epilog=EPILOG)
@click.argument("name")
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@with_connection
def download(connection: Connection, *, name: str, target: Path | None, as_json: bool) -> None:
    """Download the file NAME to TARGET: a path, or a folder that exists (default: the current one).

    TARGET appears, or is replaced, only when all of it has arrived and was found to be what was stored. A file that
    another tool has stored has no hash; it is checked by its size and version.
    """
    wanted = parsed(name)
    path = target or Path()
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
    render.note_waiting()
    async with connection.client() as client:
        bar = render.Bar(str(name), (await client.stat(name)).size, quiet=as_json)
        with bar.shown():
            file = await client.download(name, path, on_bytes=bar.advance)
    if as_json:
        render.emit({**file.to_wire(), "path": os.fsdecode(path)})
    else:
        print(f"downloaded  {name}  to {shown(os.fsencode(path))}  ({render.human(file.size)})")
    return OK
