"""`putgate dev`: everything on one machine, to try and to develop against."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("dev")
@click.argument("folder", default="inbox", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--data",
    default=".putgate-dev",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the store's data, the keys and the logs are kept.",
)
def dev(folder: Path, data: Path) -> None:
    """Run a local store, the API, and the daemon on FOLDER (default: inbox) until Ctrl-C.

    Exit codes: 0 stopped on demand, 1 something is missing or has ended by itself.
    """
    # Only here: it is slow to load, and every other command is run more often.
    from putgate.dev.errors import DevError  # noqa: PLC0415
    from putgate.dev.run import run  # noqa: PLC0415

    try:
        run(home=data, folder=folder, say=click.echo)
    except DevError as error:
        raise click.ClickException(str(error)) from None
