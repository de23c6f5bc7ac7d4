"""The first process of a pod: it lives in the pod's own namespaces, and starts, signals and reaps its containers.

The stand-in writes one JSON command a line to its standard input and reads one JSON event a line from its standard
output. When the stand-in goes, it ends, and the kernel ends everything in the pod with it. It decides nothing: what
runs, when again, and what its end means is the stand-in's business. It has one thread, since it forks.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.servers.node.mounts import Mount, build_root, enter_mount_namespace, new_mount_namespace

START_FAILED = 128
"""The exit code of a container whose program could not be started, as container runtimes have it."""

Command = dict[str, Any]


class Sandbox:
    """`run`: a container, in a new root. `join`: a program in the root of a running one, as a probe does."""

    def __init__(self) -> None:
        self._processes: dict[int, str] = {}
        self._roots: dict[str, Path] = {}

    def serve(self) -> None:
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: None)
        with selectors.DefaultSelector() as selector:
            selector.register(read, selectors.EVENT_READ)
            selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
            buffer = b""
            while True:
                for key, _ in selector.select():
                    data = os.read(key.fd, 65536)
                    if key.fd != read:
                        if not data:
                            return
                        *lines, buffer = (buffer + data).split(b"\n")
                        for line in lines:
                            self._obey(json.loads(line))
                self._reap()

    def _obey(self, command: Command) -> None:
        match command["do"]:
            case "network":
                socket.sethostname(command["hostname"])
                subprocess.run(["ip", "-batch", "-"], input=command["commands"], text=True, check=True)
                _tell("network")
            case "run":
                self._start(command, self._new_root(command))
            case "join":
                self._start(command, None)
            case "signal":
                self._signal(command["id"], command["number"])
            case unknown:
                raise ValueError(f"unknown command {unknown!r}")

    def _new_root(self, command: Command) -> Path:
        """Another folder for each start: what an earlier run of the container has written is gone."""
        root = Path(command["root"])
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        self._roots[command["container"]] = root
        return root

    def _start(self, command: Command, root: Path | None) -> None:
        container = next((pid for pid, name in self._processes.items() if name == command["container"]), None)
        failed_read, failed_write = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                if root is not None:
                    new_mount_namespace()
                    _build(root, command)
                elif container is not None:
                    enter_mount_namespace(container)
                _become(command, self._roots[command["container"]])
            except BaseException as error:  # noqa: BLE001  # a forked child must not return into its parent's code
                os.write(failed_write, f"{type(error).__name__}: {error}".encode()[:1000])
            finally:
                os._exit(START_FAILED)
        os.close(failed_write)
        self._processes[pid] = command["id"]
        with os.fdopen(failed_read, "rb") as failed:
            _tell("started", id=command["id"], error=failed.read().decode() or None)

    def _signal(self, name: str, number: int) -> None:
        for pid, each in self._processes.items():
            if each == name:
                with suppress(ProcessLookupError):
                    # A process group is a container: what it started ends, stops and goes on with it. But a request
                    # to end is for its first process alone.
                    (os.kill if number == signal.SIGTERM else os.killpg)(pid, number)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            name = self._processes.pop(pid, None)
            if name is None:
                continue
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            _tell("exited", id=name, code=os.waitstatus_to_exitcode(status))


def _build(root: Path, command: Command) -> None:
    mounts = [Mount(**each) for each in command["mounts"]]
    build_root(root, mounts=mounts, opened=command["opened"], read_only=command["read_only_root"])


def _become(command: Command, root: Path) -> None:
    """Be the container's program. Returns only by raising."""
    os.setsid()
    log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chroot(root / "root")
    os.chdir(command["folder"])
    if command["user"] is not None:
        os.setgroups(command["groups"])
        os.setgid(command["group"])
        os.setuid(command["user"])
    os.umask(0o022)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    environment = command["environment"]
    program = shutil.which(command["argv"][0], path=environment["PATH"])
    if program is None:
        raise FileNotFoundError(f"exec: {command['argv'][0]!r}: executable file not found in $PATH")
    os.execve(program, command["argv"], environment)


def _tell(event: str, **values: Any) -> None:
    line = json.dumps({"event": event} | values) + "\n"
    os.write(sys.stdout.fileno(), line.encode())


if __name__ == "__main__":
    _tell("hello")
    Sandbox().serve()
