"""A real Kubernetes control plane on loopback: etcd, API server, controller manager. No scheduler and no kubelet.

Pods run only beside a node stand-in (`tests.servers.node`). The controller manager is started on demand: its garbage
collector lags for every CRD that is applied later.
"""

from __future__ import annotations

import json
import os
import secrets
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from joserfc.jwk import RSAKey

from tests.servers.kube import assets
from tests.servers.kube.audit import POLICY, AuditEvent, AuditLog
from tests.servers.kube.program import Program
from tests.servers.kube.waiting import until
from tests.servers.ports import free_port, free_ports
from tests.servers.required import missing

ADMIN = "admin"
NODE = "node-stand-in"
ISSUER = "https://kubernetes.default.svc"
SERVICE_RANGE = "10.0.0.0/16"
SERVICE_ADDRESS = "10.0.0.1"
"""What the API server calls itself inside the cluster: the first address of the range, named in its certificate."""

READY_WITHIN = 120.0


class ControlPlane:
    """`start`, `stop`, `kill`; `restart_api_server` for an outage. Always the same ports, keys and data."""

    def __init__(self, programs: dict[str, Path], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.ca_file = folder / "certificates" / "apiserver.crt"
        self.log = AuditLog(folder / "audit.log")
        self._programs = programs
        self._tokens = {user: secrets.token_urlsafe(24) for user in (ADMIN, NODE)}
        self._write_inputs()
        etcd_port, peer_port = free_ports(2)
        self._etcd = Program(self._etcd_command(etcd_port, peer_port), folder / "etcd.log")
        self.api_server = Program(self._api_server_command(etcd_port), folder / "kube-apiserver.log")
        self.controllers = Program(self._controllers_command(), folder / "kube-controller-manager.log")

    # Life

    def start(self) -> None:
        """Start etcd and the API server, and wait until it is ready. Without controllers."""
        self._etcd.start()
        self.start_api_server()

    def start_api_server(self) -> None:
        self.api_server.start()
        deadline = time.monotonic() + READY_WITHIN
        while not self._is_ready():
            self.api_server.check()
            assert time.monotonic() < deadline, f"the API server is not ready:\n{self.api_server.tail()}"
            time.sleep(0.05)

    def restart_api_server(self) -> None:
        self.api_server.kill()
        self.start_api_server()

    def start_controllers(self) -> None:
        """Start the controller manager, unless it runs, and wait until it has done its first work."""
        if not self.controllers.running:
            self.controllers.start()
        until("the controllers' first ServiceAccount and CA ConfigMap", self._controllers_work, within=READY_WITHIN)

    def stop(self) -> None:
        for program in (self.controllers, self.api_server, self._etcd):
            program.stop()

    def kill(self) -> None:
        """End all at once, as a lost machine would; also the quick end of a test run."""
        for program in (self.controllers, self.api_server, self._etcd):
            program.kill()

    def _is_ready(self) -> bool:
        if not self.ca_file.exists():
            return False
        context = ssl.create_default_context(cafile=self.ca_file)
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2, context=context) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def _controllers_work(self) -> bool:
        self.controllers.check()
        names = "serviceaccount/default", "configmap/kube-root-ca.crt"
        return "kube-root-ca.crt" in self.kubectl("get", "-n", "default", "--ignore-not-found", "-oname", *names)

    # What tests do

    @property
    def kubeconfig(self) -> Path:
        """The admin's."""
        return self.folder / f"{ADMIN}.kubeconfig"

    @property
    def node_kubeconfig(self) -> Path:
        """The node stand-in's: a user of its own, so that the audit log tells its requests from a test's."""
        return self.folder / f"{NODE}.kubeconfig"

    def kubeconfig_for(self, name: str, token: str, *, namespace: str = "default") -> Path:
        """A kubeconfig file for whoever bears `token`."""
        path = self.folder / f"{name}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        context = {"cluster": "test", "user": name, "namespace": namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": context}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(document))
        path.chmod(0o600)
        return path

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True) -> str:  # noqa: A002
        """Its standard output. Fails with its standard error, unless not to `check`."""
        return self._run("kubectl", *arguments, input=input, check=check)

    def helm(self, *arguments: str, check: bool = True) -> str:
        return self._run("helm", *arguments, input=None, check=check)

    def get(self, *arguments: str) -> Any:
        """`kubectl get … -o json` of one object, parsed; None where it is absent."""
        text = self.kubectl("get", "--ignore-not-found", "-ojson", *arguments)
        return json.loads(text) if text else None

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        """`kubectl get … -o json` of a kind: its objects."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", "-ojson", *arguments))["items"]
        return items

    def apply(self, *documents: dict[str, Any]) -> None:
        self.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(documents))

    def apply_crds(self, folder: Path) -> None:
        """Apply the CustomResourceDefinitions of `folder`, and wait until their kinds are served."""
        self.kubectl("apply", "--server-side", "-f", str(folder))
        until("the CustomResourceDefinitions are established", self._established)

    def _established(self) -> bool:
        found = self.items("customresourcedefinitions")
        conditions = ({each["type"]: each["status"] for each in crd["status"].get("conditions") or []} for crd in found)
        return all(each.get("Established") == "True" for each in conditions)

    def namespace(self, name: str) -> str:
        """A new namespace; with its ServiceAccount `default` where the controllers run, since pods need one."""
        self.kubectl("create", "namespace", name)
        if self.controllers.running:
            until(f"a ServiceAccount in {name}", lambda: self.get("-n", name, "serviceaccount", "default"))
        return name

    def token(self, namespace: str, service_account: str, audience: str | None = None, seconds: int = 3600) -> str:
        """A token by TokenRequest; without an audience it is for the API server."""
        audiences = [f"--audience={audience}"] if audience is not None else []
        arguments = ["create", "token", "-n", namespace, service_account, f"--duration={seconds}s", *audiences]
        return self.kubectl(*arguments).strip()

    def mark(self) -> int:
        return self.log.mark()

    def audit(
        self, *, user: str | None = None, verbs: Collection[str] | None = None, since: int = 0
    ) -> list[AuditEvent]:
        """Requests after `since` (from `mark`)."""
        return self.log.events(user=user, verbs=verbs, since=since)

    def _run(self, program: str, *arguments: str, input: str | None, check: bool) -> str:  # noqa: A002
        # A home of its own: both keep what they discovered about a server by its address, which another run reuses.
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.folder / "discovery"),
        }
        done = subprocess.run(
            [self._programs[program], *arguments],
            input=input,
            capture_output=True,
            text=True,
            env=environment,
            timeout=300,
            check=False,
        )
        failed = f"{program} {' '.join(arguments[:4])} ended with {done.returncode}: {done.stderr.strip()}"
        assert done.returncode == 0 or not check, failed
        return done.stdout

    # What the programs are started with

    def _write_inputs(self) -> None:
        key = RSAKey.generate_key(2048)
        for name, private in (("service-accounts.key", True), ("service-accounts.pub", False)):
            (self.folder / name).write_bytes(key.as_pem(private=private))
            (self.folder / name).chmod(0o600)
        users = (f'{token},{user},{user},"system:masters"\n' for user, token in self._tokens.items())
        (self.folder / "tokens.csv").write_text("".join(users))
        (self.folder / "tokens.csv").chmod(0o600)
        (self.folder / "audit-policy.yaml").write_text(yaml.safe_dump(POLICY))
        for user, token in self._tokens.items():
            self.kubeconfig_for(user, token)

    def _etcd_command(self, port: int, peer_port: int) -> list[str]:
        return [
            str(self._programs["etcd"]),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{port}",
            f"--advertise-client-urls=http://127.0.0.1:{port}",
            f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
            # Nobody needs this data after a power cut, and a shared disk makes a sync slow.
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _api_server_command(self, etcd_port: int) -> list[str]:
        folder = self.folder
        return [
            str(self._programs["kube-apiserver"]),
            f"--etcd-servers=http://127.0.0.1:{etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={folder / 'certificates'}",
            # An endpoint on 127.0.0.1 would be refused; the node stand-in knows the way to the API server.
            "--endpoint-reconciler-type=none",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={folder / 'tokens.csv'}",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-signing-key-file={folder / 'service-accounts.key'}",
            f"--service-account-key-file={folder / 'service-accounts.pub'}",
            f"--api-audiences={ISSUER}",
            f"--audit-policy-file={folder / 'audit-policy.yaml'}",
            f"--audit-log-path={self.log.path}",
        ]

    def _controllers_command(self) -> list[str]:
        return [
            str(self._programs["kube-controller-manager"]),
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            f"--service-account-private-key-file={self.folder / 'service-accounts.key'}",
            f"--root-ca-file={self.ca_file}",
            "--secure-port=0",
            "--use-service-account-credentials",
            # Its default of 20 requests a second would be what every test of many objects waits for.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            # The stand-in's nodes have no heartbeat: these two would taint them and evict their pods.
            "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller",
        ]


def require_programs() -> dict[str, Path]:
    """The programs, or a skip that says how to get them (a failure where everything is required)."""
    found = assets.find()
    lacking = [program for program in assets.PROGRAMS if program not in found]
    if lacking:
        missing(f"needs {', '.join(lacking)}: {assets.HOW}")
    return found


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One control plane for all tests of a worker, without nodes; keep apart by namespaces."""
    server = ControlPlane(require_programs(), tmp_path_factory.mktemp("kube"))
    try:
        server.start()
        yield server
    finally:
        server.kill()
