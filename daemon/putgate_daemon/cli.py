"""The `putgate-daemon` command: settings in, exit code out.

Exit codes: 0 all is well; 1 some files failed, or the daemon could not go on; 2 the settings cannot be used;
3 another daemon has the journal; 130 and 143 a single run was interrupted.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import click
import uvloop

from putgate_daemon import log, run
from putgate_daemon.entries import shown
from putgate_daemon.errors import (
    DaemonError,
    FoldersError,
    JournalError,
    JournalInUse,
    RuleError,
    TokenError,
    TrustError,
)
from putgate_daemon.journal import report, worker
from putgate_daemon.journal.records import NEVER, RootStatus, ScanRecord
from putgate_protocol.settings.daemon import ENV_PREFIX, DaemonSettings
from putgate_protocol.settings.load import SettingsError, load
from putgate_protocol.settings.quantities import parse_duration

FAILED = 1
UNUSABLE = 2
IN_USE = 3

_config = click.option(
    "--config", "-c", type=click.Path(path_type=Path), required=True, metavar="F", help="The settings file (YAML)."
)
_log_format = click.option(
    "--log-format",
    type=click.Choice(["auto", "json", "text"]),
    default="auto",
    show_default=True,
    help="How to log to stderr; auto is text on a terminal, else JSON.",
)
_verbose = click.option("--verbose", "-v", is_flag=True, help="Log more.")


class _Duration(click.ParamType[timedelta]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="putgate")
def main() -> None:
    """Keep folders uploaded: every file once, whole and verified."""


@main.command("run")
@_config
@_log_format
@_verbose
def run_command(config: Path, log_format: log.Format, verbose: bool) -> None:
    """Watch the folders and upload what is new or changes, until stopped."""
    settings = _load(config)
    log.configure(log_format, verbose=verbose)
    _execute(_run(settings, config))


async def _run(settings: DaemonSettings, config: Path) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run.run(settings, config, stop)
    return 0


@main.command("once")
@_config
@_log_format
@_verbose
@click.option(
    "--give-up-after",
    type=_Duration(),
    default=None,
    help="How long to wait for a server or store that does not answer, as 30s or 10m; default: for ever.",
)
def once_command(config: Path, log_format: log.Format, verbose: bool, give_up_after: timedelta | None) -> None:
    """Upload what is new or changed now, then exit: 0 when all is stored, 1 when something failed."""
    settings = _load(config)
    log.configure(log_format, verbose=verbose)
    _execute(_once(settings, config, give_up_after))


async def _once(settings: DaemonSettings, config: Path, give_up_after: timedelta | None) -> int:
    loop = asyncio.get_running_loop()
    task = loop.create_task(run.once(settings, config, give_up_after=give_up_after))
    caught: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        caught.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, interrupt, number)
    try:
        done = await task
    except asyncio.CancelledError:
        if not caught:
            raise
        return 128 + caught[0]
    for failure in done.failures:
        click.echo(f"failed: {failure.path}: {failure.detail} ({failure.code})", err=True)
    return FAILED if done.failures else 0


@main.command("status")
@_config
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
def status_command(config: Path, as_json: bool) -> None:
    """Show what the journal knows: folders, files stored, files that failed."""
    settings = _load(config)
    try:
        roots = report.read(settings.journal.absolute())
    except JournalError as error:
        _refuse(error)
    process = worker.holder(settings.journal.absolute())
    known = {root.path: root for root in roots or []}
    folders = [(os.fsencode(folder.path), folder.prefix) for folder in settings.folders]
    told = [_folder(path, prefix, known.get(path)) for path, prefix in folders]
    if as_json:
        click.echo(json.dumps({"running": process is not None, "process": process, "folders": told}, indent=2))
    else:
        click.echo("not running" if process is None else f"running (process {process})")
        for folder in told:
            click.echo(_text(folder))


def _folder(path: bytes, prefix: str, root: RootStatus | None) -> dict[str, Any]:
    if root is None:
        return {"path": shown(path), "prefix": prefix, "state": "new", "files": 0, "size": 0, "failed": 0}
    return {
        "path": shown(path),
        "prefix": prefix,
        "state": root.state,
        "detail": root.detail,
        "files": root.files,
        "size": root.size,
        "failed": root.failed,
        "failures": [
            {
                "path": shown(path),
                "code": failure.code,
                "detail": failure.detail,
                "attempts": failure.attempts,
                "since": _time(failure.first_ns),
                "retry_at": None if failure.retry_ns == NEVER else _time(failure.retry_ns),
            }
            for path, failure in root.failures.items()
        ],
        "last_scan": None if root.last_scan is None else _scan(root.last_scan),
    }


def _scan(scan: ScanRecord) -> dict[str, Any]:
    return {
        "finished": _time(scan.finished_ns),
        "seconds": round((scan.finished_ns - scan.started_ns) / 1e9, 3),
        "files": scan.files,
        "size": scan.size,
        "queued": scan.queued,
        "unwanted": scan.unwanted,
        "symlinks": scan.symlinks,
        "specials": scan.specials,
        "blocked": scan.blocked,
    }


def _text(folder: dict[str, Any]) -> str:
    lines = [
        f"{folder['path']} → {folder['prefix'] or '(no prefix)'}: {folder['state']}"
        + (f" ({folder['detail']})" if folder.get("detail") else ""),
        f"  {folder['files']} files stored, {folder['size']} bytes; {folder['failed']} failed",
    ]
    if scan := folder.get("last_scan"):
        lines.append(f"  scanned {scan['finished']} in {scan['seconds']} s: {scan['files']} files")
    lines += [f"  failed: {it['path']}: {it['detail']} ({it['code']})" for it in folder.get("failures", [])]
    return "\n".join(lines)


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).isoformat().replace("+00:00", "Z")


def _load(config: Path) -> DaemonSettings:
    try:
        text = config.read_text("utf-8")
        return load(DaemonSettings, text, origin=str(config), environment=os.environ, env_prefix=ENV_PREFIX)
    except SettingsError as error:
        _refuse(error)
    except UnicodeDecodeError:
        _refuse(f"{config}: not UTF-8")
    except OSError as error:
        _refuse(f"{config}: {error.strerror}")


def _execute(program: Coroutine[Any, Any, int]) -> NoReturn:
    """Run to the end and exit."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(program)
    except (DaemonError, OSError) as error:
        _refuse(error)
    except ExceptionGroup as errors:
        known, unknown = errors.split((DaemonError, OSError))
        if known is None or unknown is not None:
            raise
        _refuse(_first(known))
    sys.exit(code)


def _first(errors: Exception) -> Exception:
    """Of a group of errors the first: they are one failure, met by several tasks."""
    while isinstance(errors, ExceptionGroup):
        errors = errors.exceptions[0]
    return errors


def _refuse(error: Exception | str) -> NoReturn:
    """Say what is wrong, and exit."""
    click.echo(f"putgate-daemon: {error}", err=True)
    match error:
        case JournalInUse():
            sys.exit(IN_USE)
        case SettingsError() | RuleError() | FoldersError() | TokenError() | TrustError() | str():
            sys.exit(UNUSABLE)
        case _:
            sys.exit(FAILED)
