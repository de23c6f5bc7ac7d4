"""A whole Ceph in one folder, as a program: monitor, one OSD in memory, RADOS gateway. It lives as long as its users.

Who uses it holds a shared lock on `USERS`; the kernel counts them, and drops the lock of one that was killed. When the
last has gone this program ends its daemons and itself. They die with it, so nothing can be left running.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

from tests.servers.kube.program import Program

USERS = "users.lock"
READY = "ready.json"
FAILED = "failed.txt"
ROOT_USER = "putgate"
PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
START_DEADLINE = 180.0
COMMAND_DEADLINE = 60.0
"""Seconds for one command. Those that ask a monitor that is not there would wait for ever."""

_CONFIG = """\
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{monitor_port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms bind msgr2 = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
run dir = {folder}
admin socket =
log file = {folder}/$name.log
[mon]
mon data = {folder}/mon
[osd]
osd data = {folder}/osd
osd objectstore = memstore
osd class update on start = false
osd crush update on start = false
memstore device bytes = 4294967296
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{gateway_port}
rgw data = {folder}/rgw
"""


class Cluster:
    def __init__(self, folder: Path, *, monitor_port: int, gateway_port: int) -> None:
        self._folder = folder
        self._fsid = str(uuid.uuid4())
        self._monitor = f"v1:127.0.0.1:{monitor_port}"
        self._gateway_port = gateway_port
        for name in ("mon", "osd", "rgw"):
            (folder / name).mkdir()
        config = _CONFIG.format(fsid=self._fsid, folder=folder, monitor_port=monitor_port, gateway_port=gateway_port)
        (folder / "ceph.conf").write_text(config)
        self._daemons: list[Program] = []

    def start(self) -> None:
        self._start_monitor()
        self._start_osd()
        self._daemon("radosgw", "-n", "client.rgw")
        self._until_listening(self._gateway_port)

    def end(self) -> None:
        """At once: nobody needs this data again."""
        for daemon in reversed(self._daemons):
            daemon.kill()

    def _start_monitor(self) -> None:
        """No manager: it counts and balances, and nothing here waits for either."""
        map_file = str(self._folder / "monmap")
        self._run("monmaptool", "--create", "--addv", "a", f"[{self._monitor}]", "--fsid", self._fsid, map_file)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", map_file)
        self._daemon("ceph-mon", "-i", "a")

    def _start_osd(self) -> None:
        identity = str(uuid.uuid4())
        self._run("ceph", "osd", "new", identity)
        # Placed from outside: what an OSD asks for at its own start can come before it knows the cluster's id, and it
        # then ends ("wrong fsid").
        self._run("ceph", "osd", "crush", "add", "osd.0", "1", "root=default", "host=a")
        self._run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", identity)
        self._daemon("ceph-osd", "-i", "0")

    def _daemon(self, program: str, *arguments: str) -> None:
        # The kernel kills it when this program dies, however that comes about.
        command = ["setpriv", "--pdeathsig", "KILL", "--", program, "-f", *self._config(), *arguments]
        daemon = Program(command, self._folder / f"{program}.out")
        daemon.start()
        self._daemons.append(daemon)

    def _run(self, program: str, *arguments: str) -> None:
        run([program, *self._config(), *arguments])

    def _config(self) -> list[str]:
        return ["-c", str(self._folder / "ceph.conf")]

    def _until_listening(self, port: int) -> None:
        deadline = time.monotonic() + START_DEADLINE
        while True:
            for daemon in self._daemons:
                daemon.check()
            try:
                socket.create_connection(("127.0.0.1", port), 2).close()
                return
            except OSError:
                tails = "\n".join(daemon.tail() for daemon in self._daemons)
                assert time.monotonic() < deadline, f"Ceph does not serve:\n{tails}"
                time.sleep(0.1)


def run(command: list[str]) -> str:
    """Output of a short command. Raises `AssertionError` with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_DEADLINE)
    assert done.returncode == 0, f"{command[0]} answered {done.returncode}:\n{done.stderr[-2000:]}"
    return done.stdout


def create_user(folder: Path, user: str, access_key: str, secret_key: str) -> None:
    run(
        ["radosgw-admin", "-c", str(folder / "ceph.conf"), "user", "create", f"--uid={user}",
         f"--display-name={user}", f"--access-key={access_key}", f"--secret-key={secret_key}"]
    )  # fmt: skip


def main(folder: Path, ports: list[int], access_key: str, secret_key: str) -> None:
    """Beside its users, as nobody's child: each of them may leave first."""
    if os.fork() != 0:
        return
    os.setsid()
    work = folder / "cluster"
    work.mkdir()
    cluster = Cluster(work, monitor_port=ports[0], gateway_port=ports[1])
    try:
        cluster.start()
        create_user(work, ROOT_USER, access_key, secret_key)
        write_whole(folder / READY, json.dumps({"port": ports[1]}))
        with (folder / USERS).open("ab") as users:
            fcntl.flock(users, fcntl.LOCK_EX)
            # From here on nobody can begin to use it.
            cluster.end()
            (folder / READY).unlink()
    except BaseException as error:
        write_whole(folder / FAILED, f"{type(error).__name__}: {error}")
        raise
    finally:
        cluster.end()


def write_whole(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(port) for port in sys.argv[2:4]], *sys.argv[4:6])
