"""`putgate url`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

import click

from putgate.cli import render
from putgate.cli.connection import Connection, duration, with_connection
from putgate.cli.download import parsed
from putgate.cli.exits import EPILOG, OK, run
from putgate.client import Client, url_request
from putgate_protocol.messages.access_url import AccessUrlAnswer
from putgate_protocol.names import Name

HELP = """Print a URL by which anybody may read the file NAME, without a token, until it expires.

\b
curl -o report.pdf "$(putgate url 2026/report.pdf --expires 5m)"

Whoever sees the URL can use it: keep it out of logs and histories.
"""


@click.command("url", help=HELP, epilog=EPILOG)
@click.argument("name")
@click.option("--expires", callback=duration, metavar="DURATION", help="How long it is good; the server may give less.")
@click.option("--filename", metavar="F", help="What a browser saves it as.  [default: the last part of NAME]")
@click.option(
    "--inline/--attachment",
    default=None,
    help="Whether a browser shows it or saves it; --inline shows no more than the server shows anyway.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with the time until which it is good.")
@with_connection
def url(
    connection: Connection,
    *,
    name: str,
    expires: timedelta | None,
    filename: str | None,
    inline: bool | None,
    as_json: bool,
) -> None:
    wanted = parsed(name)
    try:
        url_request(wanted, expires, filename, inline)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    asked = partial(Client.url, name=wanted, expires_in=expires, filename=filename, inline=inline)
    run(_url(connection, wanted, asked, as_json=as_json))


async def _url(
    connection: Connection, name: Name, asked: Callable[[Client], Awaitable[AccessUrlAnswer]], *, as_json: bool
) -> int:
    render.note_waiting()
    async with connection.client() as client:
        given = await asked(client)
    if as_json:
        render.emit({**name.to_wire(), **given.to_wire()})
    else:
        print(given.url)
    return OK
