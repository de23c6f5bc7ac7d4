"""Which token a command uses: a flag beats a variable, a variable beats the configuration."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from putgate.cli.connection import Connection, with_connection


@click.command()
@with_connection
def show(*, connection: Connection) -> None:
    click.echo(connection.token if isinstance(connection.token, str) else "from a file")


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text("of-the-file")
    return str(path)


@pytest.mark.parametrize(
    ("flags", "variables", "used"),
    [
        (["--token", "flag"], {}, "flag"),
        (["--token", "flag"], {"PUTGATE_TOKEN_FILE": "FILE"}, "flag"),
        (["--token-file", "FILE"], {"PUTGATE_TOKEN": "variable"}, "from a file"),
        (["--token", "flag", "--token-file", "FILE"], {}, "from a file"),
        ([], {"PUTGATE_TOKEN": "variable", "PUTGATE_TOKEN_FILE": "FILE"}, "from a file"),
        ([], {"PUTGATE_TOKEN": "variable"}, "variable"),
    ],
)
def test_which_token(flags: list[str], variables: dict[str, str], used: str, token_file: str, tmp_path: Path) -> None:
    environment = {key: value.replace("FILE", token_file) for key, value in variables.items()}
    for variable in ("PUTGATE_TOKEN", "PUTGATE_TOKEN_FILE"):
        environment.setdefault(variable, "")
    arguments = ["--server", "http://api.invalid", *(flag.replace("FILE", token_file) for flag in flags)]
    done = CliRunner().invoke(show, arguments, env={**environment, "XDG_CONFIG_HOME": str(tmp_path)})
    assert (done.exit_code, done.output.strip()) == (0, used), done.output
