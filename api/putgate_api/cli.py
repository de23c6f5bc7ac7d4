"""`putgate-api`: serve, probe, clean up, check, remove a bucket, make a token."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar, assert_never

import click
import structlog
import uvloop
import yaml

from putgate_api.app import serve
from putgate_api.auth.caller import VERBS
from putgate_api.auth.token_file import hash_token, new_token
from putgate_api.backend import check_store, clean_store, probe_store, remove_store_bucket
from putgate_api.fsck.finding import Finding, Looked
from putgate_api.housekeeping.tally import Tally
from putgate_api.last_word import TERMINATION_LOG, leave
from putgate_api.prepare.steps import unfit
from putgate_api.prepare.trouble import Unfit
from putgate_api.records.bucket import BucketDisagrees
from putgate_api.records.claim import BucketInUse
from putgate_api.remove import Removal
from putgate_protocol.names import parse_prefix
from putgate_protocol.settings.api import ENV_PREFIX, ApiSettings
from putgate_protocol.settings.load import SettingsError, load
from putgate_storage.errors import StoreError
from putgate_storage.probe.report import ProbeReport

EXIT_FINDINGS = 1
EXIT_SETTINGS = 2
EXIT_UNFIT = 3
EXIT_STORE = 4

Result = TypeVar("Result")

config_option = click.option(
    "--config", "config", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The settings file."
)
log_option = click.option(
    "--termination-log",
    type=click.Path(path_type=Path, dir_okay=False),
    default=TERMINATION_LOG,
    show_default=True,
    help="Where the last word goes too, if the file exists.",
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 fine; 1 fsck has findings; 2 settings cannot be used; 3 the store or bucket must not serve, "
    "or not be removed or cleaned up; 4 the store failed, or does not let us.",
)
@click.version_option(package_name="putgate")
def main() -> None:
    """Putgate's signing API: it decides who may, and signs requests straight to the store."""


@main.command("serve")
@config_option
@log_option
@click.option("--insecure-no-auth", is_flag=True, help="Everybody may do everything; loopback addresses only.")
def serve_command(config: Path, termination_log: Path, *, insecure_no_auth: bool) -> None:
    """Serve until SIGTERM, then finish the calls under way."""
    _log_to_stderr()
    last = LastWord(termination_log)
    _run(serve(_settings(config, last), insecure=insecure_no_auth), last)


@main.command("remove-bucket")
@config_option
@log_option
@click.option("--wait", is_flag=True, help="First wait until no upload URL that was signed can be used any more.")
@click.option(
    "--claim",
    metavar="ID",
    help="The claim that is known to have created the bucket: so one that holds nothing, not even its claim any more, "
    "is removed too.",
)
def remove_command(config: Path, termination_log: Path, *, wait: bool, claim: str | None) -> None:
    """Remove the bucket if Putgate created it and nobody keeps anything in it. One JSON line says what became of it.

    Exit codes: 0 removed, or gone already; 2 the settings cannot be used; 3 the bucket is kept (NotEmpty, Adopted,
    NotOurs) until somebody changes something; 4 the store failed or does not let us: try again.
    """
    _log_to_stderr()
    last = LastWord(termination_log, as_json=True)
    removal = _run(remove_store_bucket(_settings(config, last), wait=wait, claim=claim), last)
    leave(termination_log, removal.to_json())
    print(removal.to_json())
    sys.exit(_exit_code(removal))


def _exit_code(removal: Removal) -> int:
    match removal.kind:
        case "removed":
            return 0
        case "refused":
            return EXIT_UNFIT
        case "failed":
            return EXIT_STORE
        case _:
            assert_never(removal.kind)


@main.command("janitor")
@config_option
@click.option("--once", is_flag=True, help="One round, then end. Has to be given.")
@click.option("--json", "as_json", is_flag=True, help="The counts as one JSON object.")
def janitor_command(config: Path, *, once: bool, as_json: bool) -> None:
    """Remove what uploads left behind that nobody came back for: see docs/operations.md, Housekeeping.

    Safe beside serving processes, clients and other janitors. At most janitor.calls_per_second store calls a second.

    Exit codes: 0 done; 2 the settings cannot be used; 3 the bucket is not ours to clean up; 4 the store failed: what
    is left is there for the next time.
    """
    if not once:
        raise click.UsageError("say --once: a serving process cleans up by itself, as janitor.period says")
    _log_to_stderr()
    last, tally = LastWord(None), Tally()
    settings = _settings(config, last)
    try:
        _run(clean_store(settings, tally), last)
    except SystemExit:
        if tally.changed:
            print(tally.to_json() if as_json else tally)
        raise
    print(tally.to_json() if as_json else tally)
    if tally.counts["failed"]:
        sys.exit(EXIT_STORE)


@main.command("fsck")
@config_option
@click.option("--rehash", is_flag=True, help="Also read every file and compare its hash; as much traffic as all of it.")
@click.option("--repair", is_flag=True, help="Remove hints for instant upload that are damaged or without a file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: each finding, then the summary.")
def fsck_command(config: Path, *, rehash: bool, repair: bool, as_json: bool) -> None:
    """Check that each file is as it was uploaded, and that the records of sessions and content can be read. Changes
    nothing; with --repair hints only, which nobody misses.

    Exit codes: 0 all is well; 1 there are findings; 2 the settings cannot be used; 4 the store failed, and not all was
    looked at.
    """
    _log_to_stderr()
    last, looked = LastWord(None), Looked()

    def tell(said: Finding | Looked) -> None:
        print(said.to_json() if as_json else said, flush=True)

    _run(check_store(_settings(config, last), looked, tell, rehash=rehash, repair=repair), last)
    tell(looked)
    if looked.findings:
        sys.exit(EXIT_FINDINGS)


@main.command("probe")
@config_option
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def probe_command(config: Path, *, as_json: bool) -> None:
    """Try what the store enforces, with throw-away objects, and say what follows."""
    last = LastWord(None)
    settings = _settings(config, last)
    report = _run(probe_store(settings), last)
    print(report.to_json() if as_json else _shown(report))
    if unfit(report, settings) is not None:
        sys.exit(EXIT_UNFIT)


@main.command("new-token")
@click.option("--subject", required=True, help="Whom the token stands for.")
@click.option("--verb", "verbs", multiple=True, type=click.Choice(VERBS), default=VERBS, show_default=True)
@click.option("--prefix", "prefixes", multiple=True, default=("",), help="Names it may touch; empty or ending in /.")
def token_command(subject: str, verbs: tuple[str, ...], prefixes: tuple[str, ...]) -> None:
    """Make a token: its text on standard error, once; the entry for the token file on standard output."""
    try:
        checked = [parse_prefix(prefix) for prefix in prefixes]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--prefix") from None
    token = new_token()
    entry = {"subject": subject, "sha256": hash_token(token), "verbs": list(verbs), "prefixes": checked}
    print(token, file=sys.stderr)
    print(yaml.safe_dump([entry], sort_keys=False), end="")


class LastWord:
    """Ends the program, with a message on standard error and, for Kubernetes, in `log`: `code: message`, or, `as_json`,
    in the form of a removal's result.
    """

    def __init__(self, log: Path | None, *, as_json: bool = False) -> None:
        self._log = log
        self._as_json = as_json

    def fail(self, code: str, message: str, status: int) -> NoReturn:
        self.say(code, message)
        print(f"putgate-api: {message}", file=sys.stderr)
        sys.exit(status)

    def say(self, code: str, message: str) -> None:
        line = Removal(result=code, message=message).to_json() if self._as_json else f"{code}: {message}"
        if self._log is not None:
            leave(self._log, line)
        if self._as_json:
            print(line)


def _settings(path: Path, last: LastWord) -> ApiSettings:
    try:
        text = path.read_text(encoding="utf-8")
        return load(ApiSettings, text, origin=str(path), environment=os.environ, env_prefix=ENV_PREFIX)
    except OSError as error:
        last.fail("SettingsInvalid", f"{path}: {os.strerror(error.errno or 0)}", EXIT_SETTINGS)
    except UnicodeDecodeError:
        last.fail("SettingsInvalid", f"{path}: is not UTF-8 text", EXIT_SETTINGS)
    except SettingsError as error:
        last.fail("SettingsInvalid", str(error), EXIT_SETTINGS)


def _run(work: Coroutine[Any, Any, Result], last: LastWord) -> Result:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except SettingsError as error:
        last.fail("SettingsInvalid", str(error), EXIT_SETTINGS)
    except Unfit as error:
        last.fail("IntegrityNotEnforced", str(error), EXIT_UNFIT)
    except (BucketDisagrees, BucketInUse) as error:
        last.fail(type(error).__name__, str(error), EXIT_UNFIT)
    except StoreError as error:
        last.fail(error.code, f"{error} ({error.code})", EXIT_STORE)
    except OSError as error:
        last.fail("CannotListen", f"cannot listen: {error.strerror or error}", EXIT_SETTINGS)
    except Exception as error:
        # Its text may hold anything, and standard error shows it anyway.
        last.say("InternalError", f"{type(error).__name__}; the log says where")
        raise


def _shown(report: ProbeReport) -> str:
    lines = [f"integrity tier   {report.tier}", f"commit by PUT    {'yes' if report.commit_by_put else 'no'}"]
    lines += [f"finding          {finding}" for finding in report.findings]
    return "\n".join(lines)


def _log_to_stderr() -> None:
    """JSON lines for machines, readable ones on a terminal."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if terminal else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
            if terminal
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    main()
