"""The `putgate` command: composition, nothing else."""

from __future__ import annotations

import gc

import click

from putgate.cli.dev import dev
from putgate.cli.download import download
from putgate.cli.exits import EPILOG
from putgate.cli.ls import ls
from putgate.cli.rm import rm
from putgate.cli.stat import stat
from putgate.cli.upload import upload
from putgate.cli.url import url


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="putgate")
def main() -> None:
    """Putgate: files straight into object storage.

    Which API and which token: --server and --token-file of each command, the environment (PUTGATE_SERVER,
    PUTGATE_TOKEN_FILE, PUTGATE_TOKEN), or ~/.config/putgate/config.yaml. A private CA: --ca-file, PUTGATE_CA_FILE.
    """
    # What is loaded by now stays to the end. Looking through it for garbage again and again, and once more at the exit,
    # takes as long as a good part of the start.
    gc.freeze()


for command in (upload, download, ls, stat, rm, url, dev):
    main.add_command(command)
