"""A real `putgate-operator` process on a real control plane. Pods are only said to run: what counts are objects."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from tests.operator.plane import rights
from tests.servers.kube.audit import AuditEvent
from tests.servers.kube.control_plane import ControlPlane
from tests.servers.kube.waiting import until
from tests.servers.ports import free_port

COMMAND = Path(sys.executable).with_name("putgate-operator")
CRDS = Path(__file__).parents[3] / "crds"
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


class OperatorProcess:
    """One replica. `start`, `stop` (SIGTERM), `kill` (-9), `pause` and `resume` (SIGSTOP, SIGCONT)."""

    def __init__(self, home: Home, kubeconfig: Path, *options: str, everywhere: bool) -> None:
        self.home = home
        self.kubeconfig = kubeconfig
        self.options = (*options, *([] if everywhere else [f"--namespace={home.namespace}"]))
        self.health_port = free_port()
        self.log = home.folder / f"operator-{secrets.token_hex(3)}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> OperatorProcess:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    COMMAND,
                    "run",
                    "--image=putgate:test",
                    f"--lease-namespace={self.home.namespace}",
                    f"--lease-name={rights.LEASE}",
                    f"--health-port={self.health_port}",
                    *self.options,
                ],
                env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until("the operator is ready", self._is_ready, within=120)
        return self

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(30)

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def metric(self, name: str) -> float:
        """The sum over all labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(
                f"putgate-operator ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}"
            )
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@dataclass(kw_only=True)
class Home:
    """One namespace with an operator of its own: tests share the control plane and nothing else.

    `accounts`: the kubeconfig of each that has the chart's rights, by its name and whether it has them everywhere.
    `meant_forbidden`: see `expect_forbidden`. `began`: a mark in the audit log.
    """

    plane: ControlPlane
    namespace: str
    folder: Path
    processes: list[OperatorProcess] = field(default_factory=list)
    accounts: dict[tuple[str, bool], Path] = field(default_factory=dict)
    meant_forbidden: set[str] = field(default_factory=set)
    began: int = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.plane.mark()

    def end(self) -> None:
        """What is not in the namespace does not go with it."""
        for process in self.processes:
            process.kill()
        self.plane.kubectl("delete", "namespace", self.namespace, "--wait=false")
        for account in (account for account, everywhere in self.accounts if everywhere):
            self.plane.kubectl("delete", "clusterrole,clusterrolebinding", f"{self.namespace}-{account}")

    @property
    def kubeconfig(self) -> Path:
        """The operator's."""
        return self.accounts.get(("operator", True)) or self.account("operator")

    @property
    def user(self) -> str:
        return self.user_of("operator")

    def user_of(self, account: str) -> str:
        return f"system:serviceaccount:{self.namespace}:{account}"

    def operator(self, *options: str, account: str = "operator", everywhere: bool = False) -> OperatorProcess:
        """A started replica; `account`: its ServiceAccount, so that the audit log tells replicas apart."""
        kubeconfig = self.account(account, everywhere=everywhere)
        process = OperatorProcess(self, kubeconfig, *options, everywhere=everywhere)
        self.processes.append(process)
        return process.start()

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True) -> str:  # noqa: A002 (subprocess')
        return self.plane.kubectl("-n", self.namespace, *arguments, input=input, check=check)

    def get(self, *arguments: str) -> Any:
        return self.plane.get("-n", self.namespace, *arguments)

    def bucket(self, name: str = "media", **changes: Any) -> None:
        """Apply an UploadBucket; `changes` replace fields of its spec."""
        self.plane.apply(upload_bucket(self.namespace, name, **changes))

    def patch(self, target: str, patch: dict[str, Any]) -> None:
        self.kubectl("patch", target, "--type=merge", "-p", yaml.safe_dump(patch))

    def condition(self, kind: str, name: str = "media") -> dict[str, str]:
        found = self.get("uploadbucket", name) or {}
        conditions = found.get("status", {}).get("conditions", ())
        return next((each for each in conditions if each["type"] == kind), {})

    def until_ready(self, name: str = "media", *, generation: int | None = None) -> dict[str, Any]:
        def ready() -> dict[str, Any] | None:
            found: dict[str, Any] = self.get("uploadbucket", name)
            status = found.get("status", {})
            wanted = generation or found["metadata"]["generation"]
            by_type = {each["type"]: each for each in status.get("conditions", ())}
            is_ready = by_type.get("Ready", {}).get("status") == "True"
            calm = by_type.get("Reconciling", {}).get("status") == "False"
            return found if is_ready and calm and status.get("observedGeneration", 0) >= wanted else None

        return until(f"{name} is ready", ready, within=120)

    def until_reason(self, reason: str, name: str = "media", kind: str = "Ready") -> dict[str, str]:
        def found() -> dict[str, str] | None:
            condition = self.condition(kind, name)
            assert condition.get("reason") == reason, condition
            return condition

        return until(f"{kind} of {name} says {reason}", found, within=120)

    def account(self, name: str, *, everywhere: bool = False) -> Path:
        """The kubeconfig of a ServiceAccount that may do what the chart lets the operator do, and nothing else."""
        if (known := self.accounts.get((name, everywhere))) is not None:
            return known
        assert (name, not everywhere) not in self.accounts, f"{name} has the rights of another kind of installation"
        rights.grant(self.plane, self.namespace, name, everywhere=everywhere)
        token = self.plane.token(self.namespace, name, seconds=36_000)
        path = self.plane.kubeconfig_for(f"{name}-{self.namespace}", token)
        return self.accounts.setdefault((name, everywhere), path)

    def expect_forbidden(self, words: str) -> None:
        """Let the test go on though rights are missing, where the API server's words hold these."""
        self.meant_forbidden.add(words)

    def check_rights(self, excused: Callable[[datetime], bool]) -> None:
        """Nothing was forbidden to an operator but what the test has meant to be, and that was. `excused`: times at
        which all may be.
        """
        users = {self.user_of(account) for account, _ in self.accounts}
        said = {
            f"{each.right.verb} {each.right.resource} {each.name}: {each.said}"
            for each in rights.requests(self.plane, users, self.began)
            if each.forbidden and not excused(each.began)
        }
        unmeant = [each for each in said if not any(words in each for words in self.meant_forbidden)]
        assert not unmeant, f"the chart grants too little: {unmeant}"
        idle = [words for words in self.meant_forbidden if not any(words in each for each in said)]
        assert not idle, f"never forbidden, though the test expects it: {idle}"

    def writes_of_all(self, since: int) -> list[AuditEvent]:
        """What any operator of this namespace wrote since a mark, but for Leases, in its order."""
        return [
            event
            for event in self.plane.audit(verbs=WRITES, since=since)
            if event.resource != "leases" and event.user.startswith(self.user_of(""))
        ]

    def writes(self, since: int) -> list[tuple[str, str, str]]:
        """What the operator wrote since a mark, but for its Lease."""
        return [
            (event.verb, event.resource, event.name)
            for event in self.plane.audit(user=self.user, verbs=WRITES, since=since)
            if event.resource != "leases"
        ]

    def looked(self, operator: OperatorProcess, times: int) -> None:
        """Wait until the operator has looked at everything `times` times more."""
        name = "putgate_operator_reconcile_seconds_count"
        before = operator.metric(name)
        until(f"{times} more looks", lambda: operator.metric(name) >= before + times, within=120)

    def until_children(self, wanted: dict[str, Any], *, within: float) -> None:
        """Settings of other templates may stay for as long as a ReplicaSet names them."""

        def same() -> bool:
            found = {key: each for key, each in self.children().items() if key in wanted or "-settings-" not in key}
            assert found == wanted, {
                key: (found.get(key), wanted.get(key)) for key in {*found, *wanted} if found.get(key) != wanted.get(key)
            }
            return True

        until("the children are as wanted", same, within=within)

    def children(self) -> dict[str, Any]:
        """Every object that carries the label, as it is wanted: without what only the cluster writes."""
        kinds = "configmap,serviceaccount,service,deployment,poddisruptionbudget,networkpolicy"
        listed = self.plane.items("-n", self.namespace, kinds, "-l", "putgate.io/uploadbucket")
        return {f"{each['kind']}/{each['metadata']['name']}": _wanted(each) for each in listed}


def _wanted(raw: dict[str, Any]) -> dict[str, Any]:
    metadata = raw["metadata"]
    ours = {key: value for key, value in (metadata.get("annotations") or {}).items() if key.startswith("putgate.io/")}
    ours.pop("putgate.io/generation", None)
    ours.pop("putgate.io/desired-hash", None)
    kept = {key: value for key, value in raw.items() if key not in ("metadata", "status")}
    if raw["kind"] == "Service":
        kept["spec"] = {key: value for key, value in raw["spec"].items() if not key.startswith("clusterIP")}
    return {**kept, "labels": metadata.get("labels"), "annotations": ours}


def upload_bucket(namespace: str, name: str = "media", **changes: Any) -> dict[str, Any]:
    """A minimal UploadBucket."""
    storage = {
        "type": "S3",
        "s3": {
            "bucket": "media",
            "provider": "SeaweedFS",
            "endpoint": "http://store.example:8333",
            "credentials": {"type": "Secret", "secretRef": {"name": "media-s3"}},
        },
    }
    return {
        "apiVersion": "putgate.io/v1alpha1",
        "kind": "UploadBucket",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"storage": storage, **changes},
    }
