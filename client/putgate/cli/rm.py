"""`putgate rm`."""

from __future__ import annotations

import click

from putgate.cli import render
from putgate.cli.connection import Connection, with_connection
from putgate.cli.download import parsed
from putgate.cli.exits import EPILOG, code_of_all, complain, explain, run
from putgate.upload.prepare import FileError
from putgate_protocol.names import Name


@click.command("rm", epilog=EPILOG)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--if-match", metavar="VERSION", help="Only if it is this version (see `putgate stat`); for one NAME.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file on standard output.")
@with_connection
def rm(connection: Connection, *, names: tuple[str, ...], if_match: str | None, as_json: bool) -> None:
    """Remove the files NAME... from the bucket."""
    if if_match is not None and len(names) > 1:
        raise click.UsageError("--if-match is about one file")
    run(_rm(connection, [parsed(name) for name in names], if_match, as_json=as_json))


async def _rm(connection: Connection, names: list[Name], if_match: str | None, *, as_json: bool) -> int:
    render.note_waiting()
    errors: list[Exception] = []
    async with connection.client() as client:
        for name in names:
            try:
                await client.delete(name, if_match=if_match)
            except FileError as error:
                errors.append(error)
                complain(explain(error), name)
                if as_json:
                    render.emit({**name.to_wire(), "status": "failed", "error": render.failure(error)})
            else:
                if as_json:
                    render.emit({**name.to_wire(), "status": "removed"})
                else:
                    print(f"removed  {name}")
    return code_of_all(errors)
