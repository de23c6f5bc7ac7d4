"""`putgate upload`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import click

from putgate.cli import render
from putgate.cli.connection import Connection, with_connection
from putgate.cli.exits import EPILOG, code_of_all, run, shown
from putgate.client import as_name
from putgate.upload.job import Failed, Job
from putgate.upload.progress import StateFiles
from putgate.upload.source import FileSource
from putgate_protocol.names import Name
from putgate_protocol.problems import NameProblem

HELP = """Upload each FILE straight into the bucket.

\b
putgate upload report.pdf                        stored as report.pdf
putgate upload report.pdf --to 2026/june.pdf     stored as 2026/june.pdf
putgate upload a.jpg b.jpg --to photos/          stored as photos/a.jpg, photos/b.jpg

A file that is stored already is not sent again. An upload that was interrupted, even by a crash, goes on where it
stopped when the same command is given again.
"""


@click.command("upload", help=HELP, epilog=EPILOG)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=bytes))
@click.option(
    "--to",
    metavar="NAME|FOLDER/",
    default="",
    help="Where it goes: the name of the one FILE or, ending in a slash, the folder for all.  [default: each "
    "under its own last part]",
)
@click.option("--content-type", help="The type that downloads will have.")
@click.option("--metadata", "-m", metavar="KEY=VALUE", multiple=True, help="User metadata; may be repeated.")
@click.option("--if-absent", is_flag=True, help="Only where nothing has the name yet.")
@click.option("--if-match", metavar="VERSION", help="Only over this version (see `putgate stat`); for one FILE.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file on standard output.")
@with_connection
def upload(
    connection: Connection,
    *,
    files: tuple[bytes, ...],
    to: str,
    content_type: str | None,
    metadata: tuple[str, ...],
    if_absent: bool,
    if_match: str | None,
    as_json: bool,
) -> None:
    if if_match is not None and len(files) > 1:
        raise click.UsageError("--if-match is about one file")
    sources = named(files, to)
    pairs = _metadata(metadata)
    jobs = [
        Job(
            name=name,
            source=FileSource(path, follow_symlinks=True),
            content_type=content_type,
            metadata=pairs,
            if_absent=if_absent,
            if_match=if_match,
        )
        for name, path in sources.items()
    ]
    run(_upload(connection, jobs, sources, as_json=as_json))


def named(files: tuple[bytes, ...], to: str) -> dict[Name, bytes]:
    """The name of each file, with its absolute path. Raises `click.UsageError`."""
    target = to.encode("utf-8", "surrogateescape")
    if target and not target.endswith(b"/") and len(files) > 1:
        raise click.UsageError("--to names one file, but there are several: end it in a slash to make it a folder")
    names: dict[Name, bytes] = {}
    for file in files:
        path = os.path.abspath(file)  # noqa: PTH100 (bytes)
        raw = target if target and not target.endswith(b"/") else target + os.path.basename(path)  # noqa: PTH119
        try:
            name = as_name(raw)
        except NameProblem as error:
            raise click.UsageError(f"{shown(file)}: {error.detail}") from None
        if name in names:
            raise click.UsageError(f"{shown(names[name])} and {shown(path)} would both be stored as {name}")
        names[name] = path
    return names


def _metadata(pairs: tuple[str, ...]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    if wrong := [key for key, equals, _ in split if not key or not equals]:
        raise click.UsageError(f"--metadata is KEY=VALUE, not {wrong[0]!r}")
    return {key: value for key, _, value in split}


def state_folder() -> Path:
    """Where interrupted uploads are remembered."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "putgate" / "uploads"


async def _upload(connection: Connection, jobs: list[Job], sources: Mapping[Name, bytes], *, as_json: bool) -> int:
    render.note_waiting()
    sizes = {name: _size(path) for name, path in sources.items()}
    many = f"{len(jobs)} files"
    bar = render.Bar(str(jobs[0].name) if len(jobs) == 1 else many, sum(sizes.values()), quiet=as_json)
    sent: dict[Name, int] = {}

    def on_bytes(name: Name, count: int) -> None:
        sent[name] = sent.get(name, 0) + count
        bar.advance(count)

    async def stream() -> AsyncIterator[Job]:
        for job in jobs:
            yield job

    progress = StateFiles(state_folder(), connection.url, sources)
    errors: list[Exception] = []
    async with connection.client() as client, contextlib.AsyncExitStack() as stack:
        engine = client.engine(progress=progress, on_bytes=on_bytes)
        with bar.shown():
            outcomes = await stack.enter_async_context(contextlib.aclosing(engine.upload_many(stream())))
            async for outcome in outcomes:
                name = outcome.job.name
                # What was not sent, because it was there or failed, is done all the same.
                bar.advance(sizes[name] - sent.get(name, 0))
                render.uploaded(outcome, as_json=as_json)
                if isinstance(outcome, Failed):
                    errors.append(outcome.error)
    return code_of_all(errors)


def _size(path: bytes) -> int:
    """For the bar alone; what is wrong with the file is said when it is its turn."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 (bytes)
    except OSError:
        return 0
