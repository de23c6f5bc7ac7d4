"""`putgate-api remove-bucket`: what it refuses, what it removes, and what it leaves when it is cut short."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from putgate_api.records.claim import Claim, ensure_claim, read_claim
from putgate_api.records.keys import RecordKeys
from putgate_api.remove import remove_bucket
from putgate_protocol.settings.api import Claimant, Storage
from putgate_storage.errors import Permanent, StoreError, Transient, Unsupported
from putgate_storage.memory import MemoryStore
from putgate_storage.store import ObjectHeaders, Version, VersionPage
from tests.api.in_cluster import give_credentials, in_cluster, until_ready
from tests.servers.api import ApiProcess
from tests.servers.ports import free_port
from tests.servers.proxy import running
from tests.servers.proxy_calls import kind
from tests.servers.proxy_faults import Answer, LoseAnswer
from tests.servers.seaweedfs import SeaweedFS


class Job:
    """The Job of an UploadBucket that is being deleted, and the bucket that its API has made."""

    def __init__(self, api: ApiProcess) -> None:
        self.api = api
        self.name = f"putgate-{secrets.token_hex(6)}"
        api.settings["storage"] |= {"management": "Create"}
        api.settings["storage"]["s3"]["bucket"] = self.name
        self.last_word = api.folder / "termination-log"
        self.last_word.touch()

    def prepare(self) -> None:
        """Run the API until it has prepared the bucket, as it was before the deletion."""
        self.api.start()
        until_ready(self.api)
        assert self.api.stop() == 0

    def seem_prepared(self) -> None:
        """The bucket as the API leaves it, without the time that its probe takes."""
        claim = Claim(id="ab" * 16, **self.api.settings["storage"]["claimant"], created=True)
        with closing(self.api.store.client()) as client:
            client.create_bucket(Bucket=self.name)
            for record, body in {"claim": json.dumps(asdict(claim)), "bucket": "{}", "probe": "{}"}.items():
                client.put_object(Bucket=self.name, Key=f"team/.putgate/v1/{record}.json", Body=body.encode())

    def run(self, *options: str) -> tuple[int, dict[str, Any]]:
        config = self.api.folder / "api.yaml"
        config.write_text(yaml.safe_dump(self.api.settings))
        self.last_word.write_text("")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "putgate_api.cli", "remove-bucket"),
                *("--config", str(config), "--termination-log", str(self.last_word)),
                *options,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PUTGATE_"))},
        )
        assert self.last_word.read_text() == done.stdout, done.stderr
        assert done.stdout.count("\n") == 1
        assert self.api.store.secret_key not in done.stdout + done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        assert set(result) == {"result", "message"}
        return done.returncode, result

    def outcome(self, *options: str) -> tuple[int, str]:
        code, result = self.run(*options)
        return code, result["result"]


@pytest.fixture
def client(seaweedfs: SeaweedFS) -> Iterator[Any]:
    with closing(seaweedfs.client()) as made:
        yield made


@pytest.fixture
def job(tmp_path: Path, seaweedfs: SeaweedFS, client: Any) -> Iterator[Job]:
    made = Job(in_cluster(ApiProcess(tmp_path / "api", seaweedfs, prefix="team/")))
    yield made
    made.api.kill()
    if made.name in buckets(client):
        client.delete_bucket(Bucket=made.name)


def buckets(client: Any) -> list[str]:
    return [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]


def keys(client: Any, bucket: str) -> list[str]:
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def standing_claim(client: Any, job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        client.get_object(Bucket=job.name, Key="team/.putgate/v1/claim.json")["Body"].read()
    )
    return found


def test_a_bucket_of_our_making_is_removed_and_once_is_enough(job: Job, client: Any) -> None:
    job.prepare()
    assert keys(client, job.name) != []
    assert job.outcome() == (0, "Removed")
    assert job.name not in buckets(client)
    code, again = job.run()
    assert (code, again["result"]) == (0, "Removed")
    assert "gone already" in again["message"]


def test_with_versioning_our_own_versions_go_too(job: Job, client: Any) -> None:
    job.seem_prepared()
    client.put_bucket_versioning(Bucket=job.name, VersioningConfiguration={"Status": "Enabled"})
    key = "team/.putgate/v1/sessions/owner/id.json"
    for body in (b"1", b"2"):
        client.put_object(Bucket=job.name, Key=key, Body=body)
    client.delete_object(Bucket=job.name, Key=key)
    assert len(client.list_object_versions(Bucket=job.name)["DeleteMarkers"]) == 1
    assert job.outcome() == (0, "Removed")
    assert job.name not in buckets(client)


@pytest.mark.parametrize(
    "kept",
    ["team/file", "elsewhere", "other/.putgate/v1/claim.json", ".putgate/v1/claim.json", "team/.putgate-notes"],
)
def test_an_object_of_anybody_keeps_the_bucket(job: Job, client: Any, kept: str) -> None:
    job.seem_prepared()
    client.put_object(Bucket=job.name, Key=kept, Body=b"x")
    before = keys(client, job.name)
    code, result = job.run()
    assert (code, result["result"]) == (3, "NotEmpty")
    assert kept in result["message"]
    assert keys(client, job.name) == before, "nothing was taken away"


def test_old_versions_keep_the_bucket(job: Job, client: Any) -> None:
    job.seem_prepared()
    client.put_bucket_versioning(Bucket=job.name, VersioningConfiguration={"Status": "Enabled"})
    client.put_object(Bucket=job.name, Key="team/deleted", Body=b"x")
    client.delete_object(Bucket=job.name, Key="team/deleted")
    assert "team/deleted" not in keys(client, job.name)
    code, result = job.run()
    assert (code, result["result"]) == (3, "NotEmpty")
    assert "versions" in result["message"]


def test_an_open_upload_keeps_the_bucket(job: Job, client: Any) -> None:
    job.seem_prepared()
    upload = client.create_multipart_upload(Bucket=job.name, Key="team/large")
    code, result = job.run()
    assert (code, result["result"]) == (3, "NotEmpty")
    assert "open uploads" in result["message"]
    client.abort_multipart_upload(Bucket=job.name, Key="team/large", UploadId=upload["UploadId"])
    assert job.outcome() == (0, "Removed")


@pytest.mark.slow
def test_a_bucket_that_was_there_is_kept(job: Job, client: Any) -> None:
    client.create_bucket(Bucket=job.name)
    code, result = job.run()
    assert (code, result["result"]) == (3, "Adopted"), "nobody has claimed it yet"
    job.prepare()
    code, result = job.run()
    assert (code, result["result"]) == (3, "Adopted")
    assert job.name in buckets(client)
    assert "team/.putgate/v1/claim.json" in keys(client, job.name)


def test_a_bucket_that_somebody_else_has_claimed_is_kept(job: Job, client: Any) -> None:
    job.seem_prepared()
    job.api.settings["storage"]["claimant"]["name"] = "other"
    assert job.outcome() == (3, "NotOurs")
    job.api.settings["storage"]["claimant"] = None
    assert job.outcome() == (3, "Adopted")
    assert job.name in buckets(client)


def test_missing_credentials_are_a_result_of_their_own(job: Job) -> None:
    give_credentials(job.api, None, None)
    assert job.outcome() == (4, "CredentialsMissing")
    give_credentials(job.api, "only", None)
    assert job.outcome() == (4, "CredentialsMissing")


def test_why_the_store_did_not_let_us(job: Job) -> None:
    give_credentials(job.api, job.api.store.access_key, "wrong")
    assert job.outcome() == (4, "CredentialsRejected")
    job.api.settings["storage"]["s3"]["endpoint"] = f"http://127.0.0.1:{free_port()}"
    assert job.outcome() == (4, "StoreUnreachable")


def test_settings_that_cannot_be_used(job: Job) -> None:
    job.api.settings["storage"]["prefix"] = "no-slash"
    code, result = job.run()
    assert (code, result["result"]) == (2, "SettingsInvalid")
    assert "a prefix is empty or ends in" in result["message"]


def test_a_lost_answer_is_no_failure(job: Job, client: Any, seaweedfs: SeaweedFS) -> None:
    job.seem_prepared()
    with running(seaweedfs.endpoint) as proxy:
        proxy.rule(kind("DeleteBucket"), LoseAnswer(), times=1)
        job.api.settings["storage"]["s3"]["endpoint"] = proxy.url
        assert job.outcome() == (0, "Removed")
    assert job.name not in buckets(client)


def test_a_bucket_that_the_store_keeps_keeps_its_claim(job: Job, client: Any, seaweedfs: SeaweedFS) -> None:
    job.seem_prepared()
    claim = standing_claim(client, job)
    with running(seaweedfs.endpoint) as proxy:
        proxy.rule(kind("DeleteBucket"), Answer(status=403, body=b"<Error><Code>AccessDenied</Code></Error>"))
        job.api.settings["storage"]["s3"]["endpoint"] = proxy.url
        assert job.outcome() == (4, "AccessDenied")
        assert standing_claim(client, job) == claim
        proxy.heal()
        assert job.outcome() == (0, "Removed")


@pytest.mark.parametrize("left", [None, "somebody/s-file", "team/.putgate/v1/bucket.json"])
def test_a_removal_cut_off_after_its_last_record_is_finished_by_who_knows_the_claim(
    job: Job, client: Any, left: str | None
) -> None:
    job.seem_prepared()
    claim = standing_claim(client, job)["id"]
    for key in keys(client, job.name):
        client.delete_object(Bucket=job.name, Key=key)
    assert job.outcome() == (3, "Adopted")
    if left is not None:
        client.put_object(Bucket=job.name, Key=left, Body=b"x")
        assert job.outcome("--claim", claim) == (3, "Adopted")
        client.delete_object(Bucket=job.name, Key=left)
    assert job.outcome("--claim", claim) == (0, "Removed")
    assert job.name not in buckets(client)


def test_a_known_claim_is_no_way_past_anothers(job: Job, client: Any) -> None:
    job.seem_prepared()
    claim = standing_claim(client, job)
    body = json.dumps(claim | {"id": "cd" * 16, "name": "another"}).encode()
    client.put_object(Bucket=job.name, Key="team/.putgate/v1/claim.json", Body=body)
    assert job.outcome("--claim", claim["id"]) == (3, "NotOurs")
    for key in keys(client, job.name):
        client.delete_object(Bucket=job.name, Key=key)


# --- what no real store does on demand ---

KEYS = RecordKeys("team/")
CLAIMANT = Claimant(namespace_uid="ns", namespace="apps", name="media")
STORAGE = Storage.model_validate(
    {
        "s3": {"bucket": "bucket", "endpoint": "http://store.invalid"},
        "prefix": "team/",
        "management": "Create",
        "claimant": CLAIMANT,
    }
)


async def claimed(store: MemoryStore) -> Claim:
    return await ensure_claim(store, KEYS, CLAIMANT, created=True, take_over=None, random_hex=lambda size: "ab" * size)


class Late(MemoryStore):
    """Somebody writes a file while our records are being removed: an upload that was signed before."""

    async def delete(self, key: str) -> None:
        await super().delete(key)
        if key == KEYS.bucket:
            await self.put_small("team/late", b"x")

    async def delete_bucket(self) -> None:
        # With all that it holds, as SeaweedFS does.
        self.objects.clear()
        await super().delete_bucket()


async def test_what_comes_while_we_remove_is_kept() -> None:
    store = Late()
    claim = await claimed(store)
    await store.put_small(KEYS.bucket, b"{}")
    removal = await remove_bucket(store, STORAGE)
    assert (removal.result, removal.kind) == ("NotEmpty", "refused")
    kept = await read_claim(store, KEYS)
    assert kept is not None
    assert kept.claim == claim
    assert {"team/late", KEYS.bucket} <= store.objects.keys()


async def test_a_url_that_is_still_about_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    await claimed(store)
    await store.put_small(KEYS.bucket, b"{}")
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        assert KEYS.bucket in store.objects
        await store.put_small("team/late", b"x")

    monkeypatch.setattr("putgate_api.remove.asyncio.sleep", sleep)
    removal = await remove_bucket(store, STORAGE, timedelta(seconds=120))
    assert (waited, removal.result) == ([120.0], "NotEmpty")
    # What is kept keeps its part rule too.
    assert {"team/late", KEYS.bucket, KEYS.claim} <= store.objects.keys()


class Later(MemoryStore):
    """The same, after our last look: the store itself refuses."""

    async def delete_bucket(self) -> None:
        await self.put_small("team/late", b"x")
        await super().delete_bucket()


async def test_what_comes_after_our_last_look_is_kept_by_the_store() -> None:
    store = Later()
    claim = await claimed(store)
    removal = await remove_bucket(store, STORAGE)
    assert removal.result == "NotEmpty"
    kept = await read_claim(store, KEYS)
    assert kept is not None
    assert kept.claim == claim, "it is still of our making, and may be removed when it is empty"
    await store.delete("team/late")


class Down(MemoryStore):
    """Removes the bucket, or not, and says nothing."""

    def __init__(self, *, happens: bool) -> None:
        super().__init__()
        self._happens = happens

    async def delete_bucket(self) -> None:
        if self._happens:
            await super().delete_bucket()
        raise Transient("no answer", code="Down")


@pytest.mark.parametrize("happens", [True, False])
async def test_an_unknown_end_is_looked_at(happens: bool) -> None:
    store = Down(happens=happens)
    await claimed(store)
    if happens:
        assert (await remove_bucket(store, STORAGE)).result == "Removed"
        assert store.objects == {}, "a write could bring the bucket back"
    else:
        with pytest.raises(Transient):
            await remove_bucket(store, STORAGE)
        assert KEYS.claim in store.objects


class Unversioned(MemoryStore):
    """Has no such call."""

    async def list_versions(self, prefix: str, *, token: str | None = None) -> VersionPage:
        raise Unsupported("no versions", code="NotImplemented")

    async def delete_version(self, version: Version) -> None:
        raise AssertionError


class Forbidden(Unversioned):
    async def list_versions(self, prefix: str, *, token: str | None = None) -> VersionPage:
        raise Permanent("not allowed", code="AccessDenied")


async def test_versions_that_cannot_be_listed() -> None:
    store = Unversioned()
    await claimed(store)
    assert (await remove_bucket(store, STORAGE)).result == "Removed"
    blind = Forbidden()
    await claimed(blind)
    with pytest.raises(StoreError):
        await remove_bucket(blind, STORAGE)
    assert KEYS.claim in blind.objects


async def test_an_open_probe_of_ours_is_no_obstacle() -> None:
    store = MemoryStore()
    await claimed(store)
    await store.create_upload("team/.putgate/v1/probe/killed/part", ObjectHeaders())
    assert (await remove_bucket(store, STORAGE)).result == "Removed"


async def test_hundreds_of_records_are_removed() -> None:
    store = MemoryStore()
    await claimed(store)
    for number in range(2500):
        await store.put_small(f"team/.putgate/v1/sessions/o/{number}.json", b"{}")
    assert (await remove_bucket(store, STORAGE)).result == "Removed"
