"""The whole way on a real control plane: the chart, the operator's pod, an UploadBucket, its API's pods, an upload."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.kube.waiting import until
from tests.servers.node.cluster import Cluster, cluster  # noqa: F401
from tests.servers.seaweedfs import SeaweedFS

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("putgate")

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A namespace with the chart installed for it alone. `endpoint`: the store, as pods reach it."""

    cluster: Cluster
    store: SeaweedFS
    namespace: str
    endpoint: str
    folder: Path

    def get(self, *arguments: str) -> Any:
        return self.cluster.control_plane.get("-n", self.namespace, *arguments)

    def kubectl(self, *arguments: str) -> str:
        return self.cluster.control_plane.kubectl("-n", self.namespace, *arguments)

    def apply(self, *objects: dict[str, Any]) -> None:
        self.cluster.control_plane.apply(
            *({**each, "metadata": {**each["metadata"], "namespace": self.namespace}} for each in objects)
        )

    def secret(self, name: str = "media-s3", **changes: str) -> None:
        data = {"accessKeyId": self.store.access_key, "secretAccessKey": self.store.secret_key} | changes
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})

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
        uploaders = {
            "name": "uploaders",
            "subjects": [{"kind": "ServiceAccount", "name": "uploader"}],
            "verbs": ["upload", "download", "list"],
            "prefixes": ["{serviceAccount}/"],
        }
        self.apply(
            {
                "apiVersion": "putgate.io/v1alpha1",
                "kind": "UploadBucket",
                "metadata": {"name": name},
                "spec": {"storage": storage, "access": [uploaders], "api": {"replicas": 1}, **spec},
            }
        )

    def accounts(self, *names: str) -> None:
        self.apply(*({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}} for name in names))

    def condition(self, kind: str, name: str = "media") -> dict[str, Any]:
        found = self.get("uploadbucket", name) or {}
        return next((each for each in found.get("status", {}).get("conditions", ()) if each["type"] == kind), {})

    def until(self, kind: str, status: str, reason: str | None = None, name: str = "media") -> dict[str, Any]:
        def found() -> dict[str, Any]:
            condition = self.condition(kind, name)
            good = condition.get("status") == status and reason in (None, condition["reason"])
            assert good, (condition, self.logs("app.kubernetes.io/name=putgate", "operator"), self.logs("", "api"))
            return condition

        return until(f"{kind}={status} of {name}", found, within=180)

    def logs(self, selector: str, container: str) -> dict[str, str]:
        """What a container of each pod has said last."""
        names = [pod["metadata"]["name"] for pod in self.cluster.pods(self.namespace, selector)]
        return {name: self.cluster.logs(self.namespace, name, container)[-3000:] for name in names}

    def token(self, account: str, audience: str = "") -> str:
        return self.cluster.control_plane.token(
            self.namespace, account, audience or f"putgate.io/{self.namespace}/media"
        )


@pytest.fixture
def installed(cluster: Cluster, seaweedfs: SeaweedFS, tmp_path: Path) -> Iterator[Installed]:  # noqa: F811
    plane = cluster.control_plane
    namespace = plane.namespace(f"t-{secrets.token_hex(4)}")
    plane.helm(
        "install",
        f"putgate-{namespace}",
        str(ROOT / "charts" / "putgate"),
        "--namespace",
        namespace,
        "--set=crds.enabled=false,rbac.namespaced=true,rbac.aggregate=false,operator.replicas=1,image.tag=test",
    )
    with cluster.forward_in(seaweedfs.port) as address:
        yield Installed(
            cluster=cluster, store=seaweedfs, namespace=namespace, endpoint=f"http://{address}", folder=tmp_path
        )
    plane.helm("uninstall", f"putgate-{namespace}", "--namespace", namespace)
    plane.kubectl("delete", "namespace", namespace, "--wait=false")


def call(url: str, token: str, path: str = "/files?prefix=uploader/") -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
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


def test_from_helm_install_to_an_upload(installed: Installed) -> None:
    installed.secret()
    installed.accounts("uploader", "stranger")
    installed.bucket()
    installed.until("Ready", "True")
    installed.until("IntegrityVerified", "True")
    status = installed.get("uploadbucket", "media")["status"]
    assert status["integrity"]["tier"] == "sha256"
    assert status["capabilities"]["commitByPut"] is True
    assert status["limits"]["partSize"] == 8 * 1024 * 1024
    for kind in ("CredentialsValid", "BucketReady", "BucketConfigured", "IntegrityVerified", "ApiAvailable"):
        assert installed.condition(kind)["status"] == "True", installed.condition(kind)

    source = installed.folder / "source"
    source.write_bytes(os.urandom(20_000_000))
    with installed.cluster.expose_service(installed.namespace, "media-putgate-api", 80) as url:
        done = upload(installed, url, installed.token("uploader"), source, "uploader/file")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["status"] == "uploaded"
        assert [each["name"] for each in call(url, installed.token("uploader"))[1]["files"]] == ["uploader/file"]
        code, problem = call(url, installed.token("stranger"))
        assert (code, problem.get("code", problem.get("files"))) in ((403, "forbidden"), (200, []))
        refused = upload(installed, url, installed.token("stranger"), source, "uploader/file2")
        assert refused.returncode == 4
        assert "stranger" in refused.stderr
        code, problem = call(url, installed.token("uploader", audience="somebody-else"))
        assert (code, problem["code"]) == (401, "unauthenticated")
    stored = installed.store.client()
    body = stored.get_object(Bucket=installed.store.bucket, Key=f"{installed.namespace}/uploader/file")["Body"].read()
    stored.close()
    assert body == source.read_bytes()
    refusals = [
        event
        for event in installed.cluster.control_plane.audit()
        if event.status == 403 and event.user.startswith(f"system:serviceaccount:{installed.namespace}:")
    ]
    assert refusals == []


def test_each_trouble_has_its_reason_and_heals(installed: Installed) -> None:
    installed.bucket()
    condition = installed.until("CredentialsValid", "False", "SecretMissing")
    assert "media-s3" in condition["message"] or "secret" in condition["message"].lower()
    assert installed.condition("Stalled")["status"] == "True"
    installed.secret(secretAccessKey="wrong")
    installed.until("CredentialsValid", "False", "CredentialsRejected")
    installed.secret()
    installed.until("Ready", "True")
    installed.until("CredentialsValid", "True")


def example(name: str, namespace: str) -> list[dict[str, Any]]:
    text = (ROOT / "examples" / name).read_text().replace("putgate.io/apps/", f"putgate.io/{namespace}/")
    return list(yaml.safe_load_all(text))


def test_the_daemonset_of_the_examples_uploads_from_every_node(installed: Installed) -> None:
    installed.secret()
    rule = {
        "name": "nodes",
        "subjects": [{"kind": "ServiceAccount", "name": "node-uploads"}],
        "verbs": ["upload"],
        "prefixes": ["nodes/{node}/"],
    }
    installed.bucket(access=[rule], s3={"publicEndpoint": installed.endpoint})
    installed.until("Ready", "True")
    installed.apply(*example("daemonset.yaml", installed.namespace))
    pods = until(
        "a ready daemon on every node",
        lambda: (
            (pods := installed.cluster.pods(installed.namespace, "app=node-uploads"))
            and all(each["status"].get("phase") == "Running" for each in pods)
            and pods
        ),
        within=120,
    )
    nodes = sorted(each["spec"]["nodeName"] for each in pods)
    assert len(nodes) == 2
    wanted = {}
    for node in nodes:
        dropped = installed.cluster.host(node) / "var/log/app" / "file.log"
        until("the folder is there", dropped.parent.is_dir)
        dropped.write_text(f"said on {node}")
        wanted[f"{installed.namespace}/nodes/{node}/file.log"] = f"said on {node}"

    def stored() -> dict[str, str]:
        client = installed.store.client()
        try:
            listed = client.list_objects_v2(Bucket=installed.store.bucket, Prefix=f"{installed.namespace}/nodes/")
            return {
                each["Key"]: client.get_object(Bucket=installed.store.bucket, Key=each["Key"])["Body"].read().decode()
                for each in listed.get("Contents", ())
            }
        finally:
            client.close()

    def both() -> bool:
        assert stored() == wanted, installed.logs("app=node-uploads", "daemon")
        return True

    until("both files are stored", both, within=120)


def test_the_application_of_the_examples_uploads(installed: Installed) -> None:
    installed.secret()
    installed.bucket(s3={"publicEndpoint": installed.endpoint})
    installed.until("Ready", "True")
    installed.apply(*example("application.yaml", installed.namespace))

    def complete() -> bool:
        done = installed.get("job", "upload-report").get("status", {}).get("succeeded") == 1
        assert done, installed.logs("job-name=upload-report", "upload")
        return True

    until("the upload is done", complete, within=120)


def test_two_on_one_bucket_and_prefix_and_a_take_over(installed: Installed) -> None:
    installed.secret()
    installed.bucket("first")
    installed.until("Ready", "True", name="first")
    installed.bucket("second")
    condition = installed.until("BucketReady", "False", "BucketInUse", name="second")
    assert installed.condition("Stalled", "second")["status"] == "True"
    assert installed.condition("Ready", "first")["status"] == "True"
    installed.until("BucketReady", "True", name="first")
    claim = installed.get("uploadbucket", "first")["status"]["bucket"]["claimID"]
    assert claim in condition["message"]

    installed.bucket("second", storage={"takeOver": claim})
    installed.until("Ready", "True", name="second")
    installed.kubectl("delete", "uploadbucket", "second")
    until(
        "its pods are gone", lambda: not installed.cluster.pods(installed.namespace, "putgate.io/uploadbucket=second")
    )
    installed.bucket("second")
    installed.until("Ready", "True", name="second")


def test_an_empty_bucket_that_was_created_is_removed_and_no_other(installed: Installed) -> None:
    installed.secret()
    name = f"own-{installed.namespace}"
    own = {"s3": {"bucket": name}, "storage": {"management": "Create", "prefix": ""}, "deletionPolicy": "Delete"}
    client = installed.store.client()
    try:
        for with_object in (True, False):
            installed.bucket(**own)
            installed.until("Ready", "True")
            if with_object:
                client.put_object(Bucket=name, Key="theirs", Body=b"kept")
            installed.kubectl("delete", "uploadbucket", "media", "--wait=false")
            if with_object:
                condition = installed.until("Stalled", "True", "NotEmpty")
                assert "Retain" in condition["message"]
                installed.kubectl(
                    "patch", "uploadbucket", "media", "--type=merge", "-p", '{"spec":{"deletionPolicy":"Retain"}}'
                )

            def gone() -> bool:
                found = installed.get("uploadbucket", "media")
                assert found is None, (found["status"]["conditions"], installed.logs("", "operator"))
                return True

            until("it is gone", gone, within=120)
            found = {each["Name"] for each in client.list_buckets()["Buckets"]}
            assert (name in found) is with_object
            if with_object:
                client.delete_object(Bucket=name, Key="theirs")
    finally:
        client.close()
    kinds = "job,configmap,serviceaccount"
    left = installed.cluster.control_plane.items(
        "-n", installed.namespace, kinds, "-l", "app.kubernetes.io/component=removal"
    )
    assert left == []


def test_upload_keys_rotate_without_a_failed_upload(installed: Installed) -> None:
    installed.secret()
    installed.accounts("uploader")
    installed.bucket(upload={"sessionTTL": "15m", "urlTTL": "10s"})
    installed.until("Ready", "True")
    before = installed.get("uploadbucket", "media")["status"]["uploadKeys"]["active"]
    token = installed.token("uploader")
    source = installed.folder / "source"
    source.write_bytes(os.urandom(9_000_000))
    with installed.cluster.expose_service(installed.namespace, "media-putgate-api", 80) as url:
        installed.kubectl("annotate", "uploadbucket/media", "putgate.io/rotate-keys=once")
        uploads = 0

        def signs_with_another() -> bool:
            nonlocal uploads
            done = upload(installed, url, token, source, f"uploader/{uploads}")
            assert done.returncode == 0, done.stderr
            uploads += 1
            keys = installed.get("uploadbucket", "media")["status"]["uploadKeys"]
            return keys["active"] != before and keys["phase"] == "Retiring" and before in keys["accepted"]

        until("another key signs", signs_with_another, within=300)
        done = upload(installed, url, token, source, "uploader/last")
        assert done.returncode == 0, done.stderr
    assert uploads > 1
