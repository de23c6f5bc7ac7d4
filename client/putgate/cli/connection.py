"""Which API, with which token: flags, then the environment, then the configuration file."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import click
from click.core import ParameterSource
from pydantic import Field

from putgate.client import Client
from putgate.options import Options
from putgate.token_file import TokenFile, checked_token
from putgate.wire import Token, checked_url
from putgate_protocol.settings.load import SettingsError, SettingsModel, load
from putgate_protocol.settings.quantities import Duration, parse_duration


class CommandSettings(SettingsModel):
    """`~/.config/putgate/config.yaml`. An unknown key is an error.

    `server`: the API's URL. `token_file`: holds the bearer token. `ca_file`: certificates to trust beside the
    system's. `concurrency`: PUTs at once. `retry_for`: how long what may pass by itself is tried again.
    """

    server: Annotated[str, Field(pattern=r"^https?://[^?#@\s]+$")] | None = None
    token: str | None = Field(default=None, min_length=1, repr=False)
    token_file: Path | None = None
    ca_file: Path | None = None
    concurrency: Annotated[int, Field(ge=1, le=256)] = 16
    retry_for: Duration = timedelta(minutes=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What a command needs to reach the API."""

    url: str
    token: Token = field(repr=False)
    options: Options
    ca_file: Path | None

    def client(self) -> Client:
        try:
            return Client(self.url, token=self.token, options=self.options, ca_file=self.ca_file)
        except OSError as error:
            raise click.UsageError(f"the CA file {self.ca_file} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise click.UsageError(f"the CA file: {error}") from None


def duration(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    """An option's callback."""
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


_OPTIONS = (
    click.option("--server", metavar="URL", envvar="PUTGATE_SERVER", help="The signing API.  [env: PUTGATE_SERVER]"),
    click.option(
        "--token-file",
        metavar="FILE",
        envvar="PUTGATE_TOKEN_FILE",
        type=click.Path(path_type=Path),
        help="File with the bearer token; read again when it changes.  [env: PUTGATE_TOKEN_FILE]",
    ),
    click.option(
        "--token",
        envvar="PUTGATE_TOKEN",
        help="The bearer token itself. Others on this machine can read a command line: prefer the file or the "
        "environment.  [env: PUTGATE_TOKEN]",
    ),
    click.option(
        "--ca-file",
        metavar="FILE",
        envvar="PUTGATE_CA_FILE",
        type=click.Path(path_type=Path),
        help="Certificates (PEM) to trust beside the system's, of the API and the store.  [env: PUTGATE_CA_FILE]",
    ),
    click.option(
        "--config",
        "config_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Configuration with server, token_file, token, ca_file, concurrency, retry_for.  "
        "[default: ~/.config/putgate/config.yaml]",
    ),
    click.option(
        "--retry-for",
        callback=duration,
        metavar="DURATION",
        help="How long to try again while the API or the store cannot be reached; 0s: hardly at all.  [default: 2m]",
    ),
    click.option("--verbose", "-v", is_flag=True, help="Log each call with its request id to standard error."),
)


def with_connection(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options about the API, and hand it the `connection` that they make."""

    @functools.wraps(command)
    def connected(
        *,
        server: str | None,
        token: str | None,
        token_file: Path | None,
        ca_file: Path | None,
        config_file: Path | None,
        retry_for: timedelta | None,
        verbose: bool,
        **rest: Any,
    ) -> None:
        if verbose:
            logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
            logging.getLogger("putgate").setLevel(logging.DEBUG)
        settings = _settings(config_file)
        url = server or settings.server
        if not url:
            raise click.UsageError("which server? Give --server, $PUTGATE_SERVER, or `server:` in the configuration")
        try:
            checked_url(url)
        except ValueError as error:
            raise click.UsageError(f"--server: {error}") from None
        options = Options(
            concurrency=settings.concurrency, give_up_after=settings.retry_for if retry_for is None else retry_for
        )
        connection = Connection(
            url=url,
            token=_token(token, None if _only_token_by_flag() else token_file, settings),
            options=options,
            ca_file=ca_file or settings.ca_file,
        )
        command(connection=connection, **rest)

    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(_OPTIONS), connected)


def _settings(path: Path | None) -> CommandSettings:
    chosen = path or _default_path()
    try:
        text = chosen.read_text()
    except FileNotFoundError:
        if path is not None:
            raise click.UsageError(f"--config: {path} does not exist") from None
        return CommandSettings()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{chosen}: cannot be read: {error}") from None
    try:
        return load(CommandSettings, text, origin=str(chosen), environment={}, env_prefix="PUTGATE_")
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def _default_path() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "putgate" / "config.yaml"


def _only_token_by_flag() -> bool:
    """Whether the command line names a token, and only the environment a file with one."""
    source = click.get_current_context().get_parameter_source
    by_flag = ParameterSource.COMMANDLINE
    return source("token") is by_flag and source("token_file") is not by_flag


def _token(token: str | None, token_file: Path | None, settings: CommandSettings) -> Token:
    """A flag beats a variable, and both beat the configuration; of two in one place the file beats the bare token."""
    path = token_file or (None if token else settings.token_file)
    if path is None:
        bare = token or settings.token
        return bare if bare is None else _checked(bare, "the token")
    try:
        return TokenFile(path)
    except OSError as error:
        raise click.UsageError(f"the token file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"the token file {path}: {error}") from None


def _checked(token: str, what: str) -> str:
    try:
        return checked_token(token)
    except ValueError as error:
        raise click.UsageError(f"{what}: {error}") from None
