"""Free TCP ports on loopback.

From below the range out of which the system takes ports for outgoing connections, and each pytest worker from a
range of its own: a port that was free when it was handed out is still free when its server binds it.
"""

from __future__ import annotations

import itertools
import os
import random
import socket

_FIRST = 11_000
_PER_WORKER = 2_500
_WORKERS = 8

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
_turn = itertools.count(random.randrange(_PER_WORKER))


def free_port() -> int:
    """A port that nobody listens on, and that no other caller in this process gets soon."""
    for turn in itertools.islice(_turn, _PER_WORKER):
        port = _FIRST + _worker * _PER_WORKER + turn % _PER_WORKER
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port from {_FIRST + _worker * _PER_WORKER} on")


def free_ports(count: int) -> list[int]:
    """`count` distinct ports."""
    return [free_port() for _ in range(count)]
