"""A cluster that runs pods: the control plane with its controllers, and the node stand-in.

What tests use of it is here; how nodes do it is behind `python -m tests.servers.node`, a program of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.servers.kube.control_plane import ControlPlane
from tests.servers.kube.waiting import until
from tests.servers.node.inside import FAILED, READY_LINE
from tests.servers.node.machine import Behaviour
from tests.servers.node.network import OUTSIDE

MISSING_IMAGE = "registry.invalid/missing:1"
"""Cannot be pulled; every other image is taken to be this checkout."""

NODES = 2
READY_WITHIN = 60.0
GATE_WITHIN = 30.0
CHECKOUT = Path(__file__).resolve().parents[3]
CRDS = CHECKOUT / "crds"


class NodeStandIn:
    """The stand-in's process. `root`: its folder; `hosts/NODE` is a node's file system, `logs` what containers say."""

    def __init__(self, control_plane: ControlPlane, root: Path, *, nodes: int = NODES) -> None:
        self.root = root
        self.log = root / "stand-in.log"
        self._command = [
            sys.executable,
            "-m",
            "tests.servers.node",
            f"--kubeconfig={control_plane.node_kubeconfig}",
            f"--nodes={nodes}",
            f"--root={root}",
            f"--missing-image={MISSING_IMAGE}",
        ]
        self._begin = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=CHECKOUT, start_new_session=True
            )
        until("the node stand-in is ready", self._is_ready, within=READY_WITHIN)

    def stop(self) -> None:
        """Ends it and every pod, as a lost machine would."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait(30)

    def check(self) -> None:
        assert self._process is not None, "the node stand-in is not started"
        assert self._process.poll() is None, f"the node stand-in has ended:\n{self.tail()}"

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def _is_ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            pytest.fail(f"the node stand-in has ended:\n{self.tail()}")
        return READY_LINE.encode() in self.log.read_bytes()[self._begin :]

    @contextmanager
    def ask(self, gate: str, verb: str, value: Any) -> Iterator[str]:
        """What is asked for holds until the end of the block."""
        self.check()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(GATE_WITHIN)
            connection.connect(str(self.root / f"{gate}.sock"))
            connection.sendall(json.dumps({verb: value}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer = json.loads(lines.readline())
                assert "error" not in answer, answer
                yield answer["ok"]


class Cluster:
    """What a test does with pods; everything else it does with `control_plane`."""

    def __init__(self, control_plane: ControlPlane, nodes: NodeStandIn) -> None:
        self.control_plane = control_plane
        self.nodes = nodes

    @contextmanager
    def expose(self, host: str, port: int) -> Iterator[str]:
        """`host:port` on this machine for an address inside of the cluster, such as a pod's."""
        with self.nodes.ask("outer", "expose", f"{host}:{port}") as address:
            yield address

    @contextmanager
    def expose_service(self, namespace: str, name: str, port: int, *, scheme: str = "http") -> Iterator[str]:
        """A URL on this machine for a Service's port."""
        service = self.control_plane.get("-n", namespace, "service", name)
        assert service is not None, f"no Service {namespace}/{name}"
        with self.expose(service["spec"]["clusterIP"], port) as address:
            yield f"{scheme}://{address}"

    @contextmanager
    def forward_in(self, port: int, host: str = "127.0.0.1") -> Iterator[str]:
        """`host:port` by which pods reach a server that listens on this machine."""
        with self.nodes.ask("inner", "forward_in", f"{host}:{port}") as address:
            yield address

    @contextmanager
    def misbehaving(self, behaviour: Behaviour, namespace: str, prefix: str = "") -> Iterator[None]:
        """Pods of the namespace whose names begin so stay "pending" or "unpullable", "hang" or "fail" until the end of
        the block.
        """
        wish = {"behaviour": behaviour, "namespace": namespace, "prefix": prefix}
        with self.nodes.ask("inner", "rule", wish):
            yield

    def kill(self, namespace: str, pod: str, container: str) -> None:
        """`kill -9` of a container's first program."""
        with self.nodes.ask("inner", "kill", {"namespace": namespace, "pod": pod, "container": container}):
            pass

    def host(self, node: str) -> Path:
        """A node's file system, as hostPath volumes see it."""
        return self.nodes.root / "hosts" / node

    def pods(self, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        return self.control_plane.items("-n", namespace, "pods", "-l", selector)

    def logs(self, namespace: str, pod: str, container: str) -> str:
        path = self.nodes.root / "logs" / f"{namespace}_{pod}_{container}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def events(self, namespace: str, reason: str) -> list[dict[str, Any]]:
        return [each for each in self.control_plane.items("-n", namespace, "events") if each["reason"] == reason]

    def until_available(self, namespace: str, deployment: str, *, within: float = 120.0) -> None:
        self.control_plane.kubectl(
            "rollout", "status", "-n", namespace, f"deployment/{deployment}", f"--timeout={within:g}s"
        )


def require_nodes() -> None:
    """Skip, or fail where everything is required, on a machine that cannot hold nodes."""
    missing = [program for program in ("unshare", "ip", "mount") if shutil.which(program) is None]
    reason = f"needs {', '.join(missing)}: apt-get install util-linux mount iproute2" if missing else _no_namespaces()
    if reason and os.environ.get("PUTGATE_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def _no_namespaces() -> str:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = [
        "unshare",
        *user,
        "--mount",
        "--net",
        "--pid",
        "--mount-proc",
        "--fork",
        "ip",
        "link",
        "add",
        "type",
        "veth",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"needs namespaces with virtual network cables (root, or user namespaces): {done.stderr}" * done.returncode


@contextmanager
def running_nodes(control_plane: ControlPlane, *, nodes: int = NODES) -> Iterator[NodeStandIn]:
    # A Unix socket's path has some hundred bytes at most, and pytest's folders are long.
    root = Path(tempfile.mkdtemp(prefix="putgate-nodes-"))
    stand_in = NodeStandIn(control_plane, root, nodes=nodes)
    try:
        stand_in.start()
        yield stand_in
        stand_in.check()
        failed = stand_in.log.read_text(errors="replace").partition(FAILED)
        assert not failed[1], failed[2]
    finally:
        stand_in.stop()
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def cluster(control_plane: ControlPlane) -> Iterator[Cluster]:
    """One cluster for all tests of a worker, with the checkout's CRDs; keep apart by namespaces."""
    require_nodes()
    if CRDS.is_dir():
        control_plane.apply_crds(CRDS)
    control_plane.start_controllers()
    with running_nodes(control_plane) as nodes:
        yield Cluster(control_plane, nodes)


__all__ = ["MISSING_IMAGE", "OUTSIDE", "Cluster", "NodeStandIn", "cluster", "require_nodes", "running_nodes"]
