"""`python -m tests.servers.node --kubeconfig FILE --nodes 2 --root DIR`: the node stand-in.

This process stays in the machine's own network and keeps the gate to it; the stand-in runs as its child in new
namespaces. Ends with its standard input, and the pods with it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.servers.node import inside
from tests.servers.node.relay import forward, serve_gate, through

_INSIDE = "--inside"


def main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    options, is_inside = _options(arguments)
    if is_inside:
        asyncio.run(inside.run(options))
        # At once, without waiting for what pods are doing: they end with this process.
        os._exit(0)
    return asyncio.run(_outside(options, arguments))


async def _outside(options: inside.Options, arguments: list[str]) -> int:
    options.root.mkdir(parents=True, exist_ok=True)

    async def expose(address: str) -> tuple[str, Any]:
        server = forward("127.0.0.1", 0, lambda: through(options.inner_gate, address))
        port = server.port

        async def undo() -> None:
            server.close()

        return f"127.0.0.1:{port}", undo

    await serve_gate(options.outer_gate, {"expose": expose})
    # An ordinary user is root in a user namespace of its own, and there may make the others.
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    namespaces = ["--mount", "--net", "--pid", "--mount-proc", "--fork", "--kill-child"]
    program = [sys.executable, "-m", "tests.servers.node", *arguments, _INSIDE]
    child = await asyncio.create_subprocess_exec("unshare", *user, *namespaces, *program)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, child.kill)
    return await child.wait()


def _options(arguments: list[str]) -> tuple[inside.Options, bool]:
    parser = argparse.ArgumentParser(prog="python -m tests.servers.node", description="A stand-in for nodes.")
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--root", type=Path, required=True, help="a folder of its own, with a short path")
    parser.add_argument("--missing-image", action="append", default=[], help="an image that cannot be pulled")
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    server = urlsplit(yaml.safe_load(parsed.kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    options = inside.Options(
        kubeconfig=parsed.kubeconfig.absolute(),
        api=f"{server.hostname}:{server.port}",
        nodes=parsed.nodes,
        root=parsed.root.absolute(),
        missing_images=frozenset(parsed.missing_image),
    )
    return options, parsed.inside


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
