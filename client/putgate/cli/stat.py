"""`putgate stat`."""

from __future__ import annotations

import click

from putgate.cli import render
from putgate.cli.connection import Connection, with_connection
from putgate.cli.download import parsed
from putgate.cli.exits import EPILOG, OK, run
from putgate_protocol.names import Name


@click.command("stat", epilog=EPILOG)
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@with_connection
def stat(connection: Connection, *, name: str, as_json: bool) -> None:
    """Show what is known of the file NAME: size, hash, version, time."""
    run(_stat(connection, parsed(name), as_json=as_json))


async def _stat(connection: Connection, name: Name, *, as_json: bool) -> int:
    render.note_waiting()
    async with connection.client() as client:
        file = await client.stat(name)
    if as_json:
        render.emit(file.to_wire())
        return OK
    print(f"name       {name}")
    print(f"size       {file.size} bytes ({render.human(file.size)})")
    for label, value in (
        ("file hash", file.file_hash),
        ("version", file.version),
        ("modified", f"{file.modified:%Y-%m-%d %H:%M:%SZ}" if file.modified else None),
        ("type", file.content_type),
    ):
        if value:
            print(f"{label:9}  {value}")
    return OK
