"""The chart, installed for one test into a namespace of its own, and what tests do with it.

At its end it is checked that nobody in the namespace was refused anything by the API server: a role that lacks a verb
is else seen only where a test happens to need it. A test that means to be refused names the ServiceAccount.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.servers.kube.waiting import until
from tests.servers.node.cluster import Cluster
from tests.servers.seaweedfs import SeaweedFS

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "putgate"
COMMAND = Path(sys.executable).with_name("putgate")
VALUES = (
    "crds.enabled=false,rbac.namespaced=true,rbac.aggregate=false,operator.replicas=1,"
    "image.repository=putgate,image.tag=test"
)
SERVICE = "media-putgate-api"
WITHIN, SOON = 180, 30
"""Seconds for what the operator is to bring about, and for what a watch has seen already."""

OPERATOR = "app.kubernetes.io/name=putgate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A namespace with the chart installed for it alone. `endpoint`: the store, as pods reach it. `refused`:
    ServiceAccounts whom the API server is meant to refuse something.
    """

    cluster: Cluster
    store: SeaweedFS
    namespace: str
    endpoint: str
    folder: Path
    refused: set[str] = field(default_factory=set)

    # Objects

    def get(self, *arguments: str) -> Any:
        return self.cluster.control_plane.get("-n", self.namespace, *arguments)

    def kubectl(self, *arguments: str) -> str:
        return self.cluster.control_plane.kubectl("-n", self.namespace, *arguments)

    def patch(self, target: str, patch: dict[str, Any]) -> None:
        self.kubectl("patch", target, "--type=merge", "-p", json.dumps(patch))

    def apply(self, *objects: dict[str, Any]) -> None:
        self.cluster.control_plane.apply(
            *({**each, "metadata": {**each["metadata"], "namespace": self.namespace}} for each in objects)
        )

    def helm(self, verb: str, **values: str) -> None:
        """`install` or `upgrade`, with the values of tests and over them these texts (`image.tag`)."""
        release = (f"putgate-{self.namespace}", str(CHART), "--namespace", self.namespace)
        texts = [f"--set-string={key}={value}" for key, value in values.items()]
        self.cluster.control_plane.helm(verb, *release, f"--set={VALUES}", *texts)

    def secret(self, name: str = "media-s3", **changes: str) -> None:
        data = {"accessKeyId": self.store.access_key, "secretAccessKey": self.store.secret_key} | changes
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})

    def accounts(self, *names: str) -> None:
        self.apply(*({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}} for name in names))

    def token(self, account: str, audience: str = "") -> str:
        return self.cluster.control_plane.token(
            self.namespace, account, audience or f"putgate.io/{self.namespace}/media"
        )

    def bucket(self, name: str = "media", *, s3: dict[str, Any] | None = None, **spec: Any) -> None:
        storage = {
            "type": "S3",
            "prefix": f"{self.namespace}/",
            "s3": {
                "provider": "SeaweedFS",
                "bucket": self.store.bucket,
                "endpoint": self.endpoint,
                "publicEndpoint": self.store.endpoint,
                "credentials": {"type": "Secret", "secretRef": {"name": "media-s3"}},
                **(s3 or {}),
            },
            **spec.pop("storage", {}),
        }
        self.apply(
            {
                "apiVersion": "putgate.io/v1alpha1",
                "kind": "UploadBucket",
                "metadata": {"name": name},
                "spec": {"storage": storage, "access": [rule("uploader")], "api": {"replicas": 1}, **spec},
            }
        )

    # What is seen

    def condition(self, kind: str, name: str = "media") -> dict[str, Any]:
        found = self.get("uploadbucket", name) or {}
        return next((each for each in found.get("status", {}).get("conditions", ()) if each["type"] == kind), {})

    def until(self, kind: str, status: str, reason: str | None = None, name: str = "media") -> dict[str, Any]:
        def found() -> dict[str, Any]:
            condition = self.condition(kind, name)
            good = condition.get("status") == status and reason in (None, condition["reason"])
            assert good, (name, condition, self.logs(OPERATOR, "operator"), self.logs(of(name), "api"))
            return condition

        # A watch costs less than asking again and again, and may take long; but it knows of no reason.
        watch = ("wait", f"uploadbucket/{name}", f"--for=condition={kind}={status}", f"--timeout={WITHIN}s")
        self.cluster.control_plane.kubectl("-n", self.namespace, *watch, check=False)
        return until(f"{kind}={status} of {name}", found, within=WITHIN if reason else SOON)

    def logs(self, selector: str, container: str) -> dict[str, str]:
        """What a container of each pod has said last."""
        names = [pod["metadata"]["name"] for pod in self.cluster.pods(self.namespace, selector)]
        return {name: self.cluster.logs(self.namespace, name, container)[-3000:] for name in names}

    def runs(self, name: str = "media") -> dict[str, int]:
        """An UploadBucket's pods, each with how often its container was started again."""
        return {
            pod["metadata"]["name"]: sum(each["restartCount"] for each in pod["status"].get("containerStatuses", ()))
            for pod in self.cluster.pods(self.namespace, of(name))
        }

    def refusals(self, since: int) -> list[tuple[str, str, str, str]]:
        """Who of this namespace was refused what by the API server, and is not meant to be."""
        ours = f"system:serviceaccount:{self.namespace}:"
        return [
            (event.user.removeprefix(ours), event.verb, event.resource, event.uri)
            for event in self.cluster.control_plane.audit(since=since)
            if event.status == 403 and event.user.startswith(ours) and event.user.removeprefix(ours) not in self.refused
        ]


@pytest.fixture
def installed(cluster: Cluster, seaweedfs: SeaweedFS, tmp_path: Path) -> Iterator[Installed]:
    plane = cluster.control_plane
    namespace = plane.namespace(f"t-{secrets.token_hex(4)}")
    mark = plane.mark()
    with cluster.forward_in(seaweedfs.port) as address:
        made = Installed(
            cluster=cluster, store=seaweedfs, namespace=namespace, endpoint=f"http://{address}", folder=tmp_path
        )
        made.helm("install")
        try:
            yield made
            # Before the end takes the roles away, in whatever order.
            refused = made.refusals(mark)
            assert not refused, f"the API server has refused: {refused}"
        finally:
            plane.helm("uninstall", f"putgate-{namespace}", "--namespace", namespace)
            plane.kubectl("delete", "namespace", namespace, "--wait=false")


def of(name: str) -> str:
    """The selector of an UploadBucket's objects."""
    return f"putgate.io/uploadbucket={name}"


def rule(account: str) -> dict[str, Any]:
    """An access rule: a ServiceAccount of the same namespace may do all but delete, below its own name."""
    return {
        "name": account,
        "subjects": [{"kind": "ServiceAccount", "name": account}],
        "verbs": ["upload", "download", "list"],
        "prefixes": ["{serviceAccount}/"],
    }


def call(url: str, token: str, path: str = "/files?prefix=uploader/") -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def upload(installed: Installed, url: str, token: str, path: Path, name: str) -> subprocess.CompletedProcess[str]:
    token_file = installed.folder / "token"
    token_file.write_text(token)
    return subprocess.run(
        [COMMAND, "upload", path, "--to", name, "--server", url, "--token-file", token_file, "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "XDG_STATE_HOME": str(installed.folder)},
    )
