"""`putgate ls`."""

from __future__ import annotations

import base64

import click

from putgate.cli import render
from putgate.cli.connection import Connection, with_connection
from putgate.cli.exits import EPILOG, OK, run
from putgate_protocol.messages.base import File
from putgate_protocol.messages.files import ListAnswer
from putgate_protocol.names import encode


@click.command("ls", epilog=EPILOG)
@click.argument("prefix", default="")
@click.option("--recursive", "-r", is_flag=True, help="All files below, not only this level.")
@click.option("--long", "-l", "long", is_flag=True, help="Size and time of each file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file or folder; the only exact names.")
@with_connection
def ls(connection: Connection, *, prefix: str, recursive: bool, long: bool, as_json: bool) -> None:
    r"""List files whose names begin with PREFIX; what lies deeper shows as `folder/`. End PREFIX in a slash to look
    into a folder.

    Control characters, `%`, `\` and bytes that are not UTF-8 are shown percent-encoded; --json has the exact names.
    """
    run(_ls(connection, prefix, recursive=recursive, long=long, as_json=as_json))


async def _ls(connection: Connection, prefix: str, *, recursive: bool, long: bool, as_json: bool) -> int:
    render.note_waiting()
    async with connection.client() as client:
        async for page in client.pages(prefix, delimiter=None if recursive else "/"):
            for folder in _folders(page):
                _show_folder(folder, long=long, as_json=as_json)
            for file in page.files:
                _show_file(file, long=long, as_json=as_json)
    return OK


def _folders(page: ListAnswer) -> list[bytes]:
    return sorted([*(text.encode() for text in page.prefixes), *(base64.b64decode(b64) for b64 in page.prefixes_b64)])


def _show_folder(raw: bytes, *, long: bool, as_json: bool) -> None:
    if as_json:
        try:
            render.emit({"prefix": raw.decode()})
        except UnicodeDecodeError:
            render.emit({"prefix_b64": base64.b64encode(raw).decode()})
    else:
        print(f"{'':>10}  {'':20}  {encode(raw)}" if long else encode(raw))


def _show_file(file: File, *, long: bool, as_json: bool) -> None:
    name = render.name_of(file)
    if as_json:
        render.emit(file.to_wire())
    elif long:
        modified = f"{file.modified:%Y-%m-%d %H:%M:%SZ}" if file.modified else ""
        print(f"{render.human(file.size):>10}  {modified:20}  {name}")
    else:
        print(name)
