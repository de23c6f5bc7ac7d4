"""`putgate upload`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click

from putgate.cli import render
from putgate.cli.bar import bar_of
from putgate.cli.connection import Connection, with_connection
from putgate.cli.exits import EPILOG, run, shown
from putgate.cli.intake import File, Folder, Intake
from putgate.cli.report import Report
from putgate.cli.upload_stream import GIVEN_UP, STANDARD_INPUT, Streamed, stream_name, upload_stdin
from putgate.client import as_name
from putgate.upload.job import Job
from putgate.upload.progress import StateFiles
from putgate.upload.source import FileSource
from putgate_protocol.names import Name
from putgate_protocol.problems import NameProblem

HELP = """Upload each FILE straight into the bucket.

\b
putgate upload report.pdf                        stored as report.pdf
putgate upload report.pdf --to 2026/june.pdf     stored as 2026/june.pdf
putgate upload a.jpg b.jpg --to photos/          stored as photos/a.jpg, photos/b.jpg
putgate upload -r album --to photos/             stored as photos/album/...
putgate upload -r album/. --to photos/           stored as photos/...
pg_dump db | putgate upload - db.sql             standard input, stored as db.sql

A file that is stored already is not sent again. An upload that was interrupted, even by a crash, goes on where it
stopped when the same command is given again.

With -r a FILE may be a folder: its regular files are uploaded, at any depth. Links below it are not followed; each
has a line, as has everything else that is left out. A file that vanishes before it is read counts as failed.

With `-` as FILE standard input is sent as it comes, in little memory, and becomes visible at its end. A source that
dies looks like one that ends: with --size any other length is refused, and in a shell `set -o pipefail` tells of it.
What was interrupted is given up and cannot go on. Its parts are 10,000 at most: 78 GiB, unless --size or --part-size
says that they must be larger; four of them are held in memory.
"""


@click.command("upload", help=HELP, epilog=EPILOG)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=bytes))
@click.option("--recursive", "-r", is_flag=True, help="Also folders, with all that is below them; ends in a summary.")
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
@click.option("--size", metavar="BYTES", type=click.IntRange(min=0), help="How much standard input has, exactly.")
@click.option(
    "--part-size",
    metavar="BYTES",
    type=click.IntRange(min=1),
    help="Of the parts of standard input: the bucket's (8388608), or that doubled some times.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file on standard output.")
@with_connection
def upload(
    connection: Connection,
    *,
    files: tuple[bytes, ...],
    recursive: bool,
    to: str,
    content_type: str | None,
    metadata: tuple[str, ...],
    if_absent: bool,
    if_match: str | None,
    size: int | None,
    part_size: int | None,
    as_json: bool,
) -> None:
    if STANDARD_INPUT in files:
        if recursive:
            raise click.UsageError("-r is about folders, not standard input")
        wanted = Streamed(
            name=stream_name(files, to),
            size=size,
            part_size=part_size,
            content_type=content_type,
            metadata=_metadata(metadata),
            if_absent=if_absent,
            if_match=if_match,
        )
        run(upload_stdin(connection, wanted, as_json=as_json), interrupted=GIVEN_UP)
    if size is not None or part_size is not None:
        raise click.UsageError("--size and --part-size are about standard input: putgate upload - NAME")
    if if_match is not None and (len(files) > 1 or recursive):
        raise click.UsageError("--if-match is about one file")
    roots = with_folders(files, to) if recursive else files_alone(files, to)
    pairs = _metadata(metadata)

    def job(name: Name, source: FileSource) -> Job:
        return Job(
            name=name,
            source=source,
            content_type=content_type,
            metadata=pairs,
            if_absent=if_absent,
            if_match=if_match,
        )

    what = shown(files[0]) if len(files) == 1 else f"{len(files)} files"
    bar = bar_of(what, 0, quiet=as_json)
    run(_upload(connection, Intake(roots=roots, make=job, report=Report(bar=bar, as_json=as_json, summary=recursive))))


def files_alone(files: tuple[bytes, ...], to: str) -> list[File | Folder]:
    return [File(path=path, name=name) for name, path in named(files, to).items()]


def with_folders(files: tuple[bytes, ...], to: str) -> list[File | Folder]:
    """As `cp -r` has it: a folder under its own last part, unless that is `.` or `..`. Raises `click.UsageError`."""
    target = to.encode("utf-8", "surrogateescape")
    if target and not target.endswith(b"/"):
        raise click.UsageError("with -r, --to is a folder: end it in a slash")
    plain = tuple(file for file in files if not os.path.isdir(file))  # noqa: PTH112 (bytes)
    roots = files_alone(plain, to)
    for file in files:
        if file not in plain:
            last = os.path.basename(file.rstrip(b"/"))  # noqa: PTH119
            prefix = target if last in {b"", b".", b".."} else target + last + b"/"
            roots.append(Folder(path=os.path.abspath(file), prefix=prefix))  # noqa: PTH100
    _check_apart(roots, target)
    return roots


def _check_apart(roots: list[File | Folder], target: bytes) -> None:
    """Two folders whose files may get the same names: which of them stays would be left to chance."""
    prefixes = [root.prefix for root in roots if isinstance(root, Folder)]
    if target in prefixes and len(roots) > 1:
        raise click.UsageError("a folder's content and something else may get the same names: give them one by one")
    for prefix in prefixes:
        if prefix and not _is_prefix(prefix):
            raise click.UsageError(f"{shown(prefix)} cannot begin a name")
        if prefixes.count(prefix) > 1:
            raise click.UsageError(f"two folders would both be stored below {shown(prefix)}")


def _is_prefix(prefix: bytes) -> bool:
    try:
        as_name(prefix[:-1])
    except NameProblem:
        return False
    return True


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


async def _upload(connection: Connection, intake: Intake) -> int:
    render.note_waiting()
    report = intake.report
    progress = StateFiles(state_folder(), connection.url, intake.paths)
    async with connection.client() as client, contextlib.AsyncExitStack() as stack:
        engine = client.engine(progress=progress, on_bytes=report.sent)
        with report.bar.shown():
            outcomes = await stack.enter_async_context(contextlib.aclosing(engine.upload_many(intake.jobs())))
            async for outcome in outcomes:
                report.outcome(outcome, *intake.done(outcome.job.name))
    return report.end()
