"""What the command shows on a real terminal, and keeps out of a pipe."""

from __future__ import annotations

import os
import pty
import re
import subprocess

import pytest

from tests.client.stack import COMMAND, MIB, Stack, a_stack, the_servers  # noqa: F401
from tests.servers.proxy_faults import Delay


@pytest.mark.parametrize("quiet", [False, True], ids=["bar", "json"])
def test_a_terminal_sees_a_bar_that_ends_with_the_upload(stack: Stack, quiet: bool) -> None:
    path = stack.file(20 * MIB)
    # Long enough for the bar's own clock to tick.
    stack.store.rule(lambda call: call.presigned, Delay(seconds=0.5))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "upload", path, "--to", stack.prefix + "big", *(["--json"] if quiet else [])],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env=stack.environment() | {"TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(theirs)
    seen = shown(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, seen
    if quiet:
        assert seen == ""
        assert '"status": "uploaded"' in out
    else:
        # On one line, whatever the length of the name.
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
        assert re.search(r"\S… [━╸╺ ]{20} +[0-9.]+/20\.0 MiB ", plain), plain
        assert out == f"uploaded  {stack.prefix}big  (20.0 MiB)\n"


def shown(terminal: int) -> str:
    """All that was written until the other side was closed, when a pseudo-terminal answers with an error."""
    seen = b""
    try:
        while data := os.read(terminal, 65536):
            seen += data
    except OSError:
        pass
    finally:
        os.close(terminal)
    return seen.decode()
