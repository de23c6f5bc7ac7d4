"""What the S3 driver adds to the contract: endpoints, credentials that change, the store's clock, reserved keys."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from botocore.credentials import ReadOnlyCredentials

from putgate_protocol.digests import PartHash
from putgate_protocol.settings.api import S3, Credentials, Provider
from putgate_storage.errors import Permanent, Transient
from putgate_storage.s3.clock import StoreClock
from putgate_storage.s3.credentials import CredentialSource, FileCredentials
from putgate_storage.s3.driver import S3Store, open_store
from putgate_storage.s3.providers import profile, style
from putgate_storage.store import (
    CopiesParts,
    DeletesIfMatch,
    ExpiresUploads,
    HasCredentials,
    ListsUploads,
    ListsVersions,
    ManagesBucket,
    PartToSign,
    Probeable,
    StoreUpload,
)
from tests.servers.certificates import Authority
from tests.servers.seaweedfs import SeaweedFS
from tests.storage.canned import Canned, canned_store
from tests.storage.changing_front import ChangingFront
from tests.storage.conftest import credential_files

LIFE = timedelta(minutes=15)
UPLOAD = StoreUpload(key="k", upload_id="u")


def query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


# --- endpoints ---


async def test_the_public_endpoint_is_only_signed(s3_settings: S3, seaweedfs: SeaweedFS, prefix: str) -> None:
    store = await open_store(s3_settings.model_copy(update={"public_endpoint": "https://files.example.com"}))
    await store.put_small(prefix + "x", b"dialled")
    public = await store.sign_get(prefix + "x", LIFE)
    assert public.url.startswith(f"https://files.example.com/{seaweedfs.bucket}/{prefix}x?")
    view = store.probe_view()
    dialled = await view.sign_get(prefix + "x", LIFE)
    assert dialled.url.startswith(f"{seaweedfs.endpoint}/{seaweedfs.bucket}/{prefix}x?")
    await view.aclose()
    assert await store.head(prefix + "x") is not None, "a view closes nothing"
    await store.aclose()


async def test_aws_needs_no_endpoint(tmp_path: Path) -> None:
    store = await open_store(
        S3(provider="AWS", bucket="some-bucket", region="eu-west-1", credentials=credential_files(tmp_path, "a", "s"))
    )
    request = await store.sign_get("k", LIFE)
    assert request.url.startswith("https://some-bucket.s3.eu-west-1.amazonaws.com/k?")
    await store.aclose()


@pytest.mark.parametrize(
    ("configured", "provider", "bucket", "expected"),
    [
        ("Auto", "AWS", "bucket", "Virtual"),
        ("Auto", "AWS", "dotted.bucket", "Path"),
        ("Auto", "OSS", "bucket", "Virtual"),
        ("Auto", "SeaweedFS", "bucket", "Path"),
        ("Auto", "Generic", "bucket", "Path"),
        ("Virtual", "Generic", "bucket", "Virtual"),
        ("Path", "AWS", "bucket", "Path"),
    ],
)
def test_addressing(configured: str, provider: Provider, bucket: str, expected: str) -> None:
    assert style(configured, provider, bucket) == expected


def test_abilities(s3_store: S3Store) -> None:
    optional = (CopiesParts, DeletesIfMatch, ExpiresUploads, HasCredentials, ListsUploads, ListsVersions)
    for ability in (*optional, ManagesBucket, Probeable):
        assert isinstance(s3_store, ability)


# --- certificates ---


async def test_a_new_authority_is_trusted_without_a_restart(
    s3_settings: S3, seaweedfs: SeaweedFS, tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("putgate_storage.s3.http._LOOK_EVERY", 0.0)
    old, new, bundle = Authority("old"), Authority("new"), tmp_path / "ca.crt"
    bundle.write_bytes(old.pem)
    with ChangingFront(seaweedfs.endpoint, old, tmp_path) as front:
        store = await open_store(s3_settings.model_copy(update={"endpoint": front.url, "ca_bundle": bundle}))
        await store.put_small(prefix + "x", b"1")
        front.present(new, tmp_path)
        await _until_refused(store, prefix)
        # While it is being replaced there may be none, or half of one.
        bundle.unlink()
        with pytest.raises(Permanent):
            await store.put_small(prefix + "x", b"2")
        bundle.write_text("half")
        with pytest.raises(Permanent):
            await store.put_small(prefix + "x", b"2")
        replacement = tmp_path / "fresh"
        replacement.write_bytes(new.pem)
        replacement.replace(bundle)
        await store.put_small(prefix + "x", b"3")
        await store.aclose()


async def _until_refused(store: S3Store, prefix: str) -> None:
    """A call may still find its connection breaking; a new one meets the new certificate."""
    async with asyncio.timeout(30):
        while True:
            try:
                await store.put_small(prefix + "x", b"2")
            except Transient:
                continue
            except Permanent:
                return


@pytest.mark.parametrize(("content", "code"), [(None, "CaBundleMissing"), ("no certificate", "CaBundleInvalid")])
async def test_a_bundle_that_cannot_be_used_is_said_at_once(
    s3_settings: S3, tmp_path: Path, content: str | None, code: str
) -> None:
    bundle = tmp_path / "ca.crt"
    if content is not None:
        bundle.write_text(content)
    with pytest.raises(Permanent) as raised:
        await open_store(s3_settings.model_copy(update={"ca_bundle": bundle}))
    assert raised.value.code == code
    assert str(bundle) in str(raised.value)


# --- reserved keys ---


@pytest.mark.parametrize("provider", ["SeaweedFS", "Generic"])
@pytest.mark.parametrize(
    ("key", "reserved"),
    [
        (".uploads", True),
        (".uploads/abc/0001.part", True),
        ("team/.uploads/x", False),
        (".uploads2/x", False),
        ("a.versions", True),
        ("team/a.versions/x", True),
        (".versions", True),
        ("a.versions.txt", False),
        ("versions", False),
        ("plain/file", False),
    ],
)
def test_reserved_keys(provider: Provider, key: str, reserved: bool) -> None:
    assert profile(provider).reserved.holds(key) is reserved


def test_other_providers_reserve_nothing() -> None:
    assert not profile("AWS").reserved.holds(".uploads/a.versions")


# --- credentials ---


async def test_rotated_files_reach_calls_and_signatures(
    s3_settings: S3, seaweedfs: SeaweedFS, tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("putgate_storage.s3.credentials._LOOK_EVERY", 0.0)
    store = await open_store(s3_settings)
    await store.put_small(prefix + "x", b"1")
    credential_files(tmp_path, "revoked-key", "revoked-secret")
    with pytest.raises(Permanent) as raised:
        await store.put_small(prefix + "x", b"2")
    assert raised.value.code == "InvalidAccessKeyId"
    assert "X-Amz-Credential=revoked-key%2F" in (await store.sign_get("k", LIFE)).url
    replacement = tmp_path / "replacement"
    replacement.write_text(seaweedfs.access_key)
    replacement.replace(tmp_path / "access-key")
    (tmp_path / "secret-key").write_text(seaweedfs.secret_key)
    await store.put_small(prefix + "x", b"3")
    await store.aclose()


async def test_credentials_are_told_apart_without_showing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("putgate_storage.s3.credentials._LOOK_EVERY", 0.0)
    settings = S3(bucket="bucket", endpoint="http://127.0.0.1:1", credentials=credential_files(tmp_path, "id", "s1"))
    store, other = await open_store(settings), await open_store(settings)
    first = await store.credential_mark()
    assert await store.credential_mark() == first
    assert (await other.credential_mark()).identity == first.identity
    assert (await other.credential_mark()).value != first.value, "a value that could be compared could be guessed"
    credential_files(tmp_path, "id", "s2")
    second = await store.credential_mark()
    assert second.identity == first.identity
    assert second.value != first.value
    credential_files(tmp_path, "another", "s2")
    assert (await store.credential_mark()).identity != first.identity
    assert "another" not in str(await store.credential_mark())
    await store.aclose()
    await other.aclose()


async def test_temporary_credentials_are_marked_by_their_role(s3_store: S3Store, tmp_path: Path) -> None:
    await with_temporary(s3_store, timedelta(seconds=90), tmp_path)
    source = s3_store._presigner._credentials
    first = await source.mark()
    await with_temporary(s3_store, timedelta(seconds=3600), tmp_path)
    assert await s3_store._presigner._credentials.mark() == first


async def test_files_that_are_swapped_together_are_read_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that is between the two files when the folder is swapped, as Kubernetes swaps it."""
    for generation in ("old", "new"):
        (tmp_path / generation).mkdir()
        credential_files(tmp_path / generation, generation, f"{generation}-secret")
    data = tmp_path / "..data"
    data.symlink_to("old")
    real, swapped = Path.read_text, False

    def read(path: Path, *arguments: str) -> str:
        nonlocal swapped
        text = real(path, *arguments)
        if path.name == "access-key" and not swapped:
            swapped = True
            (tmp_path / "fresh").symlink_to("new")
            (tmp_path / "fresh").rename(data)
        return text

    monkeypatch.setattr(Path, "read_text", read)
    files = FileCredentials(data / "access-key", data / "secret-key", None)
    assert swapped
    assert (files.access_key, files.secret_key) == ("new", "new-secret")


async def test_a_secret_that_is_missing_and_one_that_lacks_a_key(tmp_path: Path) -> None:
    settings = S3(bucket="bucket", endpoint="http://127.0.0.1:1", credentials=credential_files(tmp_path, "a", "s"))
    (tmp_path / "secret-key").unlink()
    with pytest.raises(Permanent) as raised:
        await open_store(settings)
    assert raised.value.code == "SecretKeyMissing"
    (tmp_path / "access-key").unlink()
    with pytest.raises(Permanent) as raised:
        await open_store(settings)
    assert raised.value.code == "SecretMissing"


async def test_the_environment_is_the_sdks_chain(
    seaweedfs: SeaweedFS, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.secret_key)
    store = await open_store(S3(bucket=seaweedfs.bucket, endpoint=seaweedfs.endpoint))
    await store.put_small(prefix + "x", b"1")
    await store.aclose()


async def test_no_credentials_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(Permanent) as raised:
        await open_store(S3(bucket="bucket", endpoint="http://127.0.0.1:1"))
    assert raised.value.code == "NoCredentials"


async def test_a_session_token_is_signed(tmp_path: Path) -> None:
    credentials = credential_files(tmp_path, "access", "secret", "the/token+")
    store = await open_store(S3(bucket="bucket", endpoint="http://127.0.0.1:1", credentials=credentials))
    (request,) = await store.sign_parts(UPLOAD, [PartToSign(number=1, length=1, sha256=PartHash.of(b"x"))], LIFE)
    assert query(request.url)["X-Amz-Security-Token"] == "the/token+"
    await store.aclose()


async def test_an_unreadable_file_is_an_error_without_its_content(tmp_path: Path) -> None:
    credentials = Credentials(
        type="Files", access_key_id_file=tmp_path / "none", secret_access_key_file=tmp_path / "none"
    )
    with pytest.raises(Permanent) as raised:
        await open_store(S3(bucket="bucket", endpoint="http://127.0.0.1:1", credentials=credentials))
    assert str(tmp_path / "none") in str(raised.value)
    credentials = credential_files(tmp_path, "access", "secret")
    (tmp_path / "secret-key").write_bytes(b"hush\xff")
    with pytest.raises(Permanent) as raised:
        await open_store(S3(bucket="bucket", endpoint="http://127.0.0.1:1", credentials=credentials))
    assert "hush" not in str(raised.value)


async def test_files_that_are_being_replaced_leave_the_old_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("putgate_storage.s3.credentials._LOOK_EVERY", 0.0)
    credential_files(tmp_path, "old", "old-secret")
    files = FileCredentials(tmp_path / "access-key", tmp_path / "secret-key", None)
    (tmp_path / "access-key").write_text("new")
    (tmp_path / "secret-key").unlink()
    assert (await files.get_frozen_credentials()).access_key == "old"
    (tmp_path / "secret-key").write_text("")
    assert (await files.get_frozen_credentials()).access_key == "old"
    (tmp_path / "secret-key").write_text("new-secret")
    found = await files.get_frozen_credentials()
    assert (found.access_key, found.secret_key) == ("new", "new-secret")


class Temporary(FileCredentials):
    """Credentials with an end, as botocore's refreshable ones keep it."""

    _expiry_time: datetime

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return ReadOnlyCredentials("access", "secret", "token", None)


async def with_temporary(store: S3Store, left: timedelta, tmp_path: Path) -> None:
    credential_files(tmp_path, "access", "secret")
    temporary = Temporary(tmp_path / "access-key", tmp_path / "secret-key", None)
    temporary._expiry_time = store.now() + left
    store._presigner._credentials = CredentialSource(store._presigner._credentials.session, temporary)


async def test_urls_never_outlive_temporary_credentials(s3_store: S3Store, tmp_path: Path) -> None:
    await with_temporary(s3_store, timedelta(seconds=90), tmp_path)
    request = await s3_store.sign_get("k", LIFE)
    assert 85 <= int(query(request.url)["X-Amz-Expires"]) <= 90
    assert request.expires_at <= s3_store.now() + timedelta(seconds=90)


async def test_expired_credentials_sign_nothing(s3_store: S3Store, tmp_path: Path) -> None:
    await with_temporary(s3_store, timedelta(seconds=-1), tmp_path)
    with pytest.raises(Transient) as raised:
        await s3_store.sign_get("k", LIFE)
    assert raised.value.code == "CredentialsExpired"


# --- clock ---


async def test_signatures_carry_the_stores_time(tmp_path: Path) -> None:
    """The store's clock is an hour ahead of ours; an error's Date counts like any."""
    ahead = datetime.now(UTC) + timedelta(hours=1)
    answer = Canned(status=404, headers={"Date": ahead.strftime("%a, %d %b %Y %H:%M:%S GMT")})
    async with canned_store(lambda _: answer) as endpoint:
        credentials = credential_files(tmp_path, "access", "secret")
        store = await open_store(S3(bucket="bucket", endpoint=endpoint, credentials=credentials))
        assert await store.head("k") is None
        assert abs(store.now() - ahead) < timedelta(seconds=5)
        signed = datetime.strptime(query((await store.sign_get("k", LIFE)).url)["X-Amz-Date"], "%Y%m%dT%H%M%S%z")
        assert abs(signed - ahead) < timedelta(seconds=5)
        await store.aclose()


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at


def test_a_clock_that_is_right_is_left_alone() -> None:
    hand = Hand()
    clock = StoreClock(hand)
    hand.at += timedelta(milliseconds=900)
    clock.note("Sun, 22 Nov 2026 12:00:00 GMT", hand.at - timedelta(milliseconds=20))
    assert clock.now() == hand.at


@pytest.mark.parametrize("offset", [timedelta(hours=-2), timedelta(seconds=-3), timedelta(seconds=5)])
def test_a_clock_that_is_wrong_is_moved_within_a_second(offset: timedelta) -> None:
    hand = Hand()
    clock = StoreClock(hand)
    store_time = hand.at + offset
    clock.note(store_time.strftime("%a, %d %b %Y %H:%M:%S GMT"), hand.at - timedelta(milliseconds=20))
    assert abs(clock.now() - store_time) <= timedelta(seconds=1.1)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Sun, 99 Nov 2026 12:00:00 GMT"])
def test_an_answer_without_a_date_moves_nothing(date: str | None) -> None:
    hand = Hand()
    clock = StoreClock(hand)
    assert clock.note(date, hand.at) is None
    assert clock.now() == hand.at


# --- lifecycle ---


async def test_the_abort_rule_leaves_other_rules_alone(s3_store: S3Store, seaweedfs: SeaweedFS, prefix: str) -> None:
    client = seaweedfs.client()
    other = {
        "ID": "somebody-elses",
        "Status": "Enabled",
        "Filter": {"Prefix": prefix + "logs/"},
        "Expiration": {"Days": 30},
    }
    client.put_bucket_lifecycle_configuration(Bucket=seaweedfs.bucket, LifecycleConfiguration={"Rules": [other]})
    for days in (7, 7, 3):
        await s3_store.ensure_abort_rule("putgate-test", prefix, days)
    rules = client.get_bucket_lifecycle_configuration(Bucket=seaweedfs.bucket)["Rules"]
    client.delete_bucket_lifecycle(Bucket=seaweedfs.bucket)
    client.close()
    by_id = {rule["ID"]: rule for rule in rules}
    assert sorted(by_id) == ["putgate-test", "somebody-elses"]
    assert by_id["putgate-test"]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 3
    assert by_id["putgate-test"]["Filter"]["Prefix"] == prefix
    assert by_id["somebody-elses"]["Expiration"]["Days"] == 30
