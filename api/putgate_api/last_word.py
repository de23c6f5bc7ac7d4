"""The last word of a process that ends: one line where Kubernetes looks for it, beside what goes to standard error.

It is the kubelet's file and only written where it exists; without it nothing is lost.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

TERMINATION_LOG = Path("/dev/termination-log")

_MAX_BYTES = 4096
"""The kubelet reads no more."""


def leave(path: Path, line: str) -> None:
    """Write `line` as one line, cut to what is read of it. A file that cannot be written is no reason to fail."""
    if not path.is_file():
        return
    one_line = " ".join(line.split())
    with contextlib.suppress(OSError):
        path.write_bytes(one_line.encode()[: _MAX_BYTES - 1] + b"\n")
