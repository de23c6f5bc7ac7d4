"""`putgate-api`: serve, probe, make a token."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import structlog
import uvloop
import yaml

from putgate_api.app import probe_store, serve
from putgate_api.auth.caller import VERBS
from putgate_api.auth.token_file import hash_token, new_token
from putgate_api.prepare import Unfit
from putgate_api.records.bucket import BucketDisagrees
from putgate_protocol.names import parse_prefix
from putgate_protocol.settings.api import ENV_PREFIX, ApiSettings
from putgate_protocol.settings.load import SettingsError, load
from putgate_storage.errors import StoreError
from putgate_storage.probe.report import ProbeReport

EXIT_SETTINGS = 2
EXIT_UNFIT = 3
EXIT_STORE = 4

Result = TypeVar("Result")

config_option = click.option(
    "--config", "config", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The settings file."
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 fine, 2 settings cannot be used, 3 the store or bucket must not serve, 4 the store failed.",
)
@click.version_option(package_name="putgate")
def main() -> None:
    """Putgate's signing API: it decides who may, and signs requests straight to the store."""


@main.command("serve")
@config_option
@click.option("--insecure-no-auth", is_flag=True, help="Everybody may do everything; loopback addresses only.")
def serve_command(config: Path, *, insecure_no_auth: bool) -> None:
    """Serve until SIGTERM, then finish the calls under way."""
    _log_to_stderr()
    _run(serve(_settings(config), insecure=insecure_no_auth))


@main.command("probe")
@config_option
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def probe_command(config: Path, *, as_json: bool) -> None:
    """Try what the store enforces, with throw-away objects, and say what follows."""
    report = _run(probe_store(_settings(config)))
    print(report.to_json() if as_json else _shown(report))
    if report.tier != "sha256":
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


def _settings(path: Path) -> ApiSettings:
    try:
        text = path.read_text(encoding="utf-8")
        return load(ApiSettings, text, origin=str(path), environment=os.environ, env_prefix=ENV_PREFIX)
    except OSError as error:
        _fail(f"{path}: {os.strerror(error.errno or 0)}", EXIT_SETTINGS)
    except UnicodeDecodeError:
        _fail(f"{path}: is not UTF-8 text", EXIT_SETTINGS)
    except SettingsError as error:
        _fail(str(error), EXIT_SETTINGS)


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except SettingsError as error:
        _fail(str(error), EXIT_SETTINGS)
    except (Unfit, BucketDisagrees) as error:
        _fail(str(error), EXIT_UNFIT)
    except StoreError as error:
        _fail(f"{error} ({error.code})", EXIT_STORE)
    except OSError as error:
        _fail(f"cannot listen: {error.strerror or error}", EXIT_SETTINGS)


def _fail(message: str, code: int) -> NoReturn:
    print(f"putgate-api: {message}", file=sys.stderr)
    sys.exit(code)


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
