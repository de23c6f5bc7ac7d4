"""Each reason why a bucket cannot be served, by its real cause, and how the process heals when the cause goes away."""

from __future__ import annotations

import asyncio
import secrets
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import web

from putgate_protocol.report import MAX_REPORT_BYTES
from tests.api.in_cluster import (
    condition,
    give_credentials,
    in_cluster,
    readyz,
    report_of,
    until_ready,
    until_reason,
    until_report,
)
from tests.api.keyed_store import READER, SECOND, WRITER, KeyedSeaweedFS, keyed_seaweedfs
from tests.servers.api import ApiProcess
from tests.servers.certificates import Authority
from tests.servers.ports import free_port
from tests.servers.proxy import running
from tests.servers.proxy_calls import Call, kind
from tests.servers.proxy_faults import Answer
from tests.servers.tls_front import TlsFront


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedSeaweedFS]:
    with keyed_seaweedfs(tmp_path_factory.mktemp("keyed")) as server:
        yield server


@pytest.fixture
def api(tmp_path: Path, keyed: KeyedSeaweedFS, prefix: str) -> Iterator[ApiProcess]:
    """Configured and not running."""
    process = in_cluster(ApiProcess(tmp_path / "api", keyed, prefix=prefix))
    yield process
    process.kill()


def test_a_fresh_bucket_is_reported_whole(api: ApiProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAME", "media-putgate-api-1")
    monkeypatch.setenv("POD_UID", "pod-uid")
    api.settings["upload"] = {"url_ttl": "5m", "max_object_size": "1Gi"}
    api.start()
    report = until_ready(api)
    assert (report.pod.name, report.pod.uid) == ("media-putgate-api-1", "pod-uid")
    assert (report.uploadbucket_uid, report.settings_hash) == ("uid-of-media", "0123456789")
    assert {each.type: (each.status, each.reason) for each in report.conditions} == {
        "CredentialsValid": ("True", "Verified"),
        "BucketReady": ("True", "Adopted"),
        "BucketConfigured": ("True", "Configured"),
        "IntegrityVerified": ("True", "Verified"),
        "Authentication": ("True", "Configured"),
    }
    assert report.integrity is not None
    assert report.integrity.tier == "sha256"
    assert report.capabilities["commitByPut"] is True
    assert report.capabilities["conditionalComplete"] is False
    assert report.limits == {
        "partSize": 8388608,
        "maxObjectSize": 1 << 30,
        "maxParts": 10000,
        "urlTTLSeconds": 300,
        "sessionTTLSeconds": 86400,
        "downloadURLTTLSeconds": 300,
        "openUploadsPerOwner": 5000,
        "requestsPerSecond": 200,
        "requestBurst": 1000,
    }
    assert report.upload_keys == ["k1"]
    assert report.bucket is not None
    assert not report.bucket.created
    with urllib.request.urlopen(f"{api.admin_url}/report", timeout=5) as answer:
        text = answer.read().decode()
    assert len(text) < MAX_REPORT_BYTES
    for secret in (api.store.secret_key, api.store.access_key, api.token):
        assert secret not in text


def test_a_secret_that_comes_later(api: ApiProcess) -> None:
    give_credentials(api, None, None)
    api.start(wait=False)
    missing = until_reason(api, "CredentialsValid", "SecretMissing")
    assert (missing.status, missing.user_error) == ("False", True)
    assert readyz(api)[0] == 503
    assert "SecretMissing" in readyz(api)[1]
    give_credentials(api, api.store.access_key, None)
    lacking = until_reason(api, "CredentialsValid", "SecretKeyMissing")
    assert "secret-access-key" in lacking.message
    give_credentials(api, api.store.access_key, api.store.secret_key)
    until_ready(api, within=30)
    assert readyz(api) == (200, "ready\n")


@pytest.mark.parametrize("wrong", [("nobodys-key", "any"), ("putgate-test-key", "wrong-secret")], ids=["key", "secret"])
def test_credentials_that_the_store_rejects(api: ApiProcess, wrong: tuple[str, str]) -> None:
    give_credentials(api, *wrong)
    api.start(wait=False)
    rejected = until_reason(api, "CredentialsValid", "CredentialsRejected")
    assert (rejected.status, rejected.user_error) == ("False", True)
    assert condition(report_of(api), "BucketReady").status == "Unknown"
    assert wrong[1] not in api.log.read_text()
    # At once, long before the next attempt would be due.
    give_credentials(api, *SECOND)
    until_ready(api, within=25)


def test_credentials_that_may_only_read(api: ApiProcess) -> None:
    give_credentials(api, *READER)
    api.start(wait=False)
    denied = until_reason(api, "BucketReady", "AccessDenied")
    assert (denied.status, denied.user_error) == ("False", True)
    assert "PutObject" in denied.message
    assert condition(report_of(api), "CredentialsValid").status == "True"


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [(403, "AccessDenied", "LifecycleAccessDenied"), (501, "NotImplemented", "LifecycleUnsupported")],
)
def test_a_bucket_without_a_clean_up_rule_serves(
    api: ApiProcess, keyed: KeyedSeaweedFS, status: int, code: str, reason: str
) -> None:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    with running(keyed.endpoint) as proxy:
        proxy.rule(kind("PutLifecycle"), Answer(status=status, body=body))
        api.settings["storage"]["s3"]["endpoint"] = proxy.url
        api.start()
        report = until_ready(api)
    configured = condition(report, "BucketConfigured")
    assert (configured.status, configured.reason, configured.user_error) == ("False", reason, False)
    assert report.state == "Ready"


def test_objects_alone_are_enough(api: ApiProcess) -> None:
    give_credentials(api, *WRITER)
    api.start()
    assert until_ready(api).state == "Ready"


@pytest.mark.slow
def test_a_bucket_that_is_missing_is_waited_for_or_created(api: ApiProcess, keyed: KeyedSeaweedFS) -> None:
    name = f"putgate-{secrets.token_hex(6)}"
    api.settings["storage"]["s3"]["bucket"] = name
    api.start(wait=False)
    missing = until_reason(api, "BucketReady", "BucketNotFound")
    assert name in missing.message
    assert missing.user_error
    assert api.stop() == 0
    api.settings["storage"]["management"] = "Create"
    api.start()
    report = until_ready(api)
    assert condition(report, "BucketReady").reason == "Created"
    assert report.bucket is not None
    assert report.bucket.created
    assert api.stop() == 0
    # Started again, and made anew under the same name: still of its making.
    api.start()
    again = until_ready(api)
    assert again.bucket == report.bucket
    assert condition(again, "BucketReady").reason == "Created"
    api.kill()
    with closing(keyed.client()) as client:
        client.delete_bucket(Bucket=name)


@pytest.mark.slow
def test_observing_writes_no_settings_of_the_bucket(api: ApiProcess, keyed: KeyedSeaweedFS) -> None:
    api.settings["storage"]["management"] = "Observe"
    with running(keyed.endpoint) as proxy:
        api.settings["storage"]["s3"]["endpoint"] = proxy.url
        api.start()
        report = until_ready(api)
        written = {call.kind for call in proxy.requests if not call.key and call.method not in ("GET", "HEAD")}
    assert written == set()
    assert proxy.counts["GetLifecycle"] == 0
    assert condition(report, "BucketConfigured").status == "True"


@pytest.mark.slow
def test_a_store_that_is_down_and_one_whose_name_is_wrong(api: ApiProcess, keyed: KeyedSeaweedFS) -> None:
    api.settings["storage"]["s3"]["endpoint"] = f"http://127.0.0.1:{free_port()}"
    api.start(wait=False)
    down = until_reason(api, "BucketReady", "StoreUnreachable")
    assert "connection refused" in down.message
    assert not down.user_error
    assert condition(report_of(api), "CredentialsValid").status == "Unknown"
    api.kill()
    api.settings["storage"]["s3"]["endpoint"] = "http://no-such-store.invalid"
    api.start(wait=False)
    assert "name cannot be resolved" in until_reason(api, "BucketReady", "StoreUnreachable").message
    api.kill()
    with running(keyed.endpoint) as proxy:
        proxy.set_down(True)
        api.settings["storage"]["s3"]["endpoint"] = proxy.url
        api.start(wait=False)
        until_reason(api, "BucketReady", "StoreUnreachable")
        proxy.set_down(False)
        until_ready(api)
        # What comes later takes nothing away.
        proxy.set_down(True)
        assert readyz(api)[0] == 200
        assert report_of(api).state == "Ready"


def test_a_store_that_never_answers_is_no_reason_for_a_silent_report(api: ApiProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api.settings["storage"]["s3"]["endpoint"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        api.start(wait=False)
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            connection.recv(1000)
            # The store has the question and keeps it.
            assert report_of(api).state == "Preparing"
            assert readyz(api)[0] == 503


@pytest.mark.slow
def test_a_certificate_that_is_not_trusted_until_its_authority_is(
    api: ApiProcess, keyed: KeyedSeaweedFS, tmp_path: Path
) -> None:
    authority, bundle = Authority(), tmp_path / "ca.crt"
    with TlsFront(keyed.endpoint, authority, tmp_path / "front") as front:
        api.settings["storage"]["s3"]["endpoint"] = front.url
        api.start(wait=False)
        untrusted = until_reason(api, "BucketReady", "TLSUntrusted")
        assert untrusted.user_error
        api.kill()
        api.settings["storage"]["s3"]["ca_bundle"] = str(bundle)
        api.start(wait=False)
        assert str(bundle) in until_reason(api, "BucketReady", "TLSUntrusted").message
        bundle.write_text("no certificate")
        until_report(api, lambda it: "no certificates in PEM" in condition(it, "BucketReady").message)
        bundle.write_bytes(Authority("another").pem)
        until_report(api, lambda it: "is the certificate trusted" in condition(it, "BucketReady").message)
        bundle.write_bytes(authority.pem)
        until_ready(api)


def keeps_wrong_parts(call: Call) -> bool:
    return call.presigned and call.kind == "UploadPart"


@pytest.mark.slow
def test_a_store_that_takes_wrong_bytes_is_refused(api: ApiProcess, keyed: KeyedSeaweedFS) -> None:
    with running(keyed.endpoint) as proxy:
        proxy.rule(keeps_wrong_parts, Answer(status=200))
        api.settings["storage"]["s3"]["endpoint"] = proxy.url
        api.start(wait=False)
        refused = until_reason(api, "IntegrityVerified", "IntegrityNotEnforced")
        assert (refused.status, refused.user_error) == ("False", True)
        assert "part_sha256" in refused.message
        assert readyz(api)[0] == 503
        assert condition(report_of(api), "BucketReady").status == "True"
        # Looked at again when the credentials change, and now it is fine.
        proxy.heal()
        give_credentials(api, *SECOND)
        until_ready(api)


def test_outside_a_cluster_such_a_store_ends_the_program(tmp_path: Path, keyed: KeyedSeaweedFS, prefix: str) -> None:
    with running(keyed.endpoint) as proxy:
        proxy.rule(keeps_wrong_parts, Answer(status=200))
        api = ApiProcess(tmp_path / "api", keyed, prefix=prefix, endpoint=proxy.url).start(wait=False)
        assert api.process is not None
        assert api.process.wait(60) == 3
    assert "enforces neither SHA-256 nor MD5" in api.log.read_text()


@pytest.mark.slow
def test_a_probe_without_an_answer_is_asked_again(api: ApiProcess, keyed: KeyedSeaweedFS) -> None:
    with running(keyed.endpoint) as proxy:
        proxy.rule(lambda call: call.presigned, Answer(status=503))
        api.settings["storage"]["s3"]["endpoint"] = proxy.url
        api.start(wait=False)
        open_question = until_reason(api, "IntegrityVerified", "ProbeInconclusive")
        assert (open_question.status, open_question.user_error) == ("Unknown", False)
        proxy.heal()
        until_ready(api)


@pytest.mark.slow
def test_settings_that_contradict_the_bucket_are_reported(api: ApiProcess) -> None:
    api.start()
    assert api.stop() == 0
    api.settings["upload"] = {"part_size": "16Mi"}
    api.start(wait=False)
    found = until_reason(api, "BucketReady", "BucketDisagrees")
    assert "part_size is 8388608 in the bucket and 16777216 in the settings" in found.message
    assert found.user_error
    assert readyz(api)[0] == 503


async def test_a_bucket_in_another_region(api: ApiProcess) -> None:
    """SeaweedFS takes any region, so this store is made up: it answers as AWS does."""

    async def elsewhere(request: web.Request) -> web.Response:
        body = "" if request.method == "HEAD" else "<Error><Code>PermanentRedirect</Code></Error>"
        return web.Response(status=301, text=body, headers={"x-amz-bucket-region": "eu-south-7"})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", elsewhere)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        api.settings["storage"]["s3"]["endpoint"] = f"http://127.0.0.1:{runner.addresses[0][1]}"
        api.start(wait=False)
        found = await asyncio.to_thread(until_reason, api, "BucketReady", "WrongRegion")
        assert "eu-south-7" in found.message
    finally:
        await runner.cleanup()
