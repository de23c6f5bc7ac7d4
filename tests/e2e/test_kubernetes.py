"""The whole way on a real control plane: the chart, the operator's pod, an UploadBucket, its API's pods, an upload."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import yaml

from tests.e2e.golden import compare
from tests.e2e.installed import ROOT, SERVICE, Installed, call, upload
from tests.servers.kube.waiting import until

pytestmark = pytest.mark.slow

DESCRIBE = ("describe", "ub", "media")


def test_from_helm_install_to_an_upload(installed: Installed) -> None:
    installed.secret()
    installed.accounts("uploader", "stranger")
    installed.bucket()
    installed.until("Ready", "True")
    for kind in ("CredentialsValid", "BucketReady", "BucketConfigured", "IntegrityVerified", "ApiAvailable"):
        installed.until(kind, "True")
    installed.until("Reconciling", "False")
    status = installed.get("uploadbucket", "media")["status"]
    assert status["integrity"]["tier"] == "sha256"
    assert status["capabilities"]["commitByPut"] is True
    assert status["limits"]["partSize"] == 8 * 1024 * 1024
    reads_well(installed)

    source = installed.folder / "source"
    source.write_bytes(os.urandom(20_000_000))
    with installed.cluster.expose_service(installed.namespace, SERVICE, 80) as url:
        done = upload(installed, url, installed.token("uploader"), source, "uploader/file")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["status"] == "uploaded"
        assert [each["name"] for each in call(url, installed.token("uploader"))[1]["files"]] == ["uploader/file"]
        code, problem = call(url, installed.token("stranger"))
        assert (code, problem["code"]) == (403, "forbidden")
        stranger = f"system:serviceaccount:{installed.namespace}:stranger"
        assert problem["detail"] == f"{stranger} may not list uploader/: no access rule is about this caller"
        refused = upload(installed, url, installed.token("stranger"), source, "uploader/file2")
        assert refused.returncode == 4
        assert "stranger" in refused.stderr
        code, problem = call(url, installed.token("uploader", audience="somebody-else"))
        assert (code, problem["code"]) == (401, "unauthenticated")
    stored = installed.store.client()
    body = stored.get_object(Bucket=installed.store.bucket, Key=f"{installed.namespace}/uploader/file")["Body"].read()
    stored.close()
    assert body == source.read_bytes()


def reads_well(installed: Installed) -> None:
    commands = {"get.txt": ("get", "ub"), "get-wide.txt": ("get", "ub", "-o", "wide"), "describe.txt": DESCRIBE}
    until("its Event is there", lambda: installed.cluster.events(installed.namespace, "Ready"))
    for name, command in commands.items():
        compare(name, installed.kubectl(*command), installed.namespace)


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
    # Told by the first report after preparing, which may be later than the pod's readiness.
    claim = until(
        "its claim is told", lambda: installed.get("uploadbucket", "first")["status"].get("bucket", {}).get("claimID")
    )
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
    own["upload"] = {"urlTTL": "10s"}  # a removal waits for as long, at most
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
    kinds = "job,configmap,serviceaccount,networkpolicy"
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
    with installed.cluster.expose_service(installed.namespace, SERVICE, 80) as url:
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
