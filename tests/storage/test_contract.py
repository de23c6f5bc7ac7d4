"""Every driver against the contract; wrapped ones too, since a wrapper is a store."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import ClassVar

import aiohttp
import pytest
from yarl import URL

from putgate_protocol.settings.api import S3
from putgate_storage.errors import Refused
from putgate_storage.memory import MemoryStore
from putgate_storage.probe.sender import HttpSender
from putgate_storage.s3.driver import S3Store, open_store
from putgate_storage.store import SignedRequest, Store
from putgate_storage.wrap.limit import limited
from putgate_storage.wrap.meter import metered
from putgate_storage.wrap.retry import retrying
from tests.servers.s3 import S3Server
from tests.servers.seaweedfs import SeaweedFS
from tests.storage.conftest import settings_of
from tests.storage.contract import BucketContract, Holder, StoreContract


class HttpHolder(HttpSender):
    """Sends over HTTP as a client does: what is signed, with the true length of what it sends."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        super().__init__(http)
        self.http = http

    async def send(self, request: SignedRequest, body: bytes, extra: object = None) -> int:
        return await super().send(request, body, {"content-length": str(len(body))})

    async def fetch(self, request: SignedRequest) -> bytes | None:
        async with self.http.get(URL(request.url, encoded=True), headers=request.headers) as answer:
            body = await answer.read()
            assert answer.status in (200, 404), answer.status
            return body if answer.status == 200 else None


class TestMemoryBucket(BucketContract):
    @pytest.fixture
    def fresh(self) -> MemoryStore:
        return MemoryStore(exists=False)

    async def test_what_is_not_empty_is_refused(self, fresh: MemoryStore) -> None:
        await fresh.create_bucket()
        await fresh.put_small("k", b"x")
        with pytest.raises(Refused):
            await fresh.delete_bucket()


class TestWrappedBucket(BucketContract):
    @pytest.fixture
    def fresh(self) -> Store:
        return retrying(limited(metered(MemoryStore(exists=False), lambda *_: None), 64))


@asynccontextmanager
async def fresh_bucket(settings: S3) -> AsyncIterator[S3Store]:
    """A store whose bucket is not there yet, and is not there afterwards."""
    store = await open_store(settings.model_copy(update={"bucket": f"putgate-{secrets.token_hex(6)}"}))
    try:
        yield store
        if await store.bucket_exists():
            for entry in (await store.list("")).entries:
                await store.delete(entry.key)
        # On SeaweedFS it would keep volumes that other buckets need.
        await store.delete_bucket()
    finally:
        await store.aclose()


class TestSeaweedFSBucket(BucketContract):
    @pytest.fixture
    async def fresh(self, s3_settings: S3) -> AsyncIterator[S3Store]:
        async with fresh_bucket(s3_settings) as store:
            yield store

    async def test_every_version_is_listed_and_can_be_removed(self, fresh: S3Store, seaweedfs: SeaweedFS) -> None:
        await fresh.create_bucket()
        await fresh.put_small("plain", b"x")
        (plain,) = (await fresh.list_versions("")).versions
        assert plain.key == "plain"
        await fresh.delete_version(plain)
        assert (await fresh.list("")).entries == []
        with closing(seaweedfs.client()) as client:
            client.put_bucket_versioning(Bucket=fresh._name, VersioningConfiguration={"Status": "Enabled"})
        for body in (b"1", b"2"):
            await fresh.put_small("a/b c", body)
        await fresh.put_small("other", b"x")
        await fresh.delete("a/b c")
        found = (await fresh.list_versions("a/")).versions
        assert [version.key for version in found] == ["a/b c"] * 3
        for version in found:
            await fresh.delete_version(version)
        assert (await fresh.list_versions("a/")).versions == []
        assert [version.key for version in (await fresh.list_versions("")).versions] == ["other"]

    async def test_versions_come_in_pages(self, fresh: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
        await fresh.create_bucket()
        for number in range(5):
            await fresh.put_small(f"k{number}", b"x")
        monkeypatch.setattr("putgate_storage.s3.bucket._VERSION_PAGE", 2)
        keys: list[str] = []
        token: str | None = None
        while True:
            page = await fresh.list_versions("", token=token)
            keys += [version.key for version in page.versions]
            if (token := page.token) is None:
                break
        assert keys == [f"k{number}" for number in range(5)]


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    @pytest.fixture
    def holder(self, store: MemoryStore) -> Holder:
        return store


class TestSeaweedFS(StoreContract):
    @pytest.fixture
    async def store(self, s3_store: S3Store) -> S3Store:
        return s3_store

    @pytest.fixture
    def holder(self, http: aiohttp.ClientSession) -> Holder:
        return HttpHolder(http)


class TestMinio(StoreContract):
    deviates: ClassVar = {
        "test_open_uploads_are_listed": "lists uploads by their exact key only",
        "test_open_uploads_are_listed_by_pages": "as above",
        "test_the_abort_rule_is_kept": "refuses the rule: it drops unfinished uploads after a day by itself",
        "test_the_cors_rule_is_kept_and_taken_back": "has one CORS setting for all buckets, and no call for it",
        "test_a_part_is_copied": "refuses copies into an upload with SHA-256: it asks for a checksum that no copy has",
        "test_a_part_is_copied_from_a_key_with_a_percent_sign": "as above",
        "test_a_conditional_delete": "ignores If-Match and deletes",
    }

    @pytest.fixture
    async def store(self, minio_store: S3Store) -> S3Store:
        return minio_store

    @pytest.fixture
    def holder(self, http: aiohttp.ClientSession) -> Holder:
        return HttpHolder(http)


@pytest.mark.slow
class TestCeph(StoreContract):
    deviates: ClassVar = {
        "test_complete_of_nothing_is_none_or_repeats_success": "answers 500 where the upload was aborted",
        "test_complete_with_a_condition": "ignores the precondition of a complete",
        "test_signed_parts_bind_bytes_and_length": "ignores SHA-256",
        "test_a_signed_put_stores_what_it_says": "ignores SHA-256",
        "test_a_part_is_copied_from_a_key_with_a_percent_sign": "decodes x-amz-copy-source twice: copies another key",
        "test_a_copy_holds_to_its_sources_etag": "ignores x-amz-copy-source-if-match",
        "test_a_conditional_delete": "ignores If-Match and deletes",
    }
    unclear_losers = True

    @pytest.fixture
    async def store(self, ceph_store: S3Store) -> S3Store:
        return ceph_store

    @pytest.fixture
    def holder(self, http: aiohttp.ClientSession) -> Holder:
        return HttpHolder(http)


class TestMinioBucket(BucketContract):
    @pytest.fixture
    async def fresh(self, minio: S3Server, tmp_path: Path) -> AsyncIterator[S3Store]:
        async with fresh_bucket(settings_of(minio, tmp_path)) as store:
            yield store


@pytest.mark.slow
class TestCephBucket(BucketContract):
    @pytest.fixture
    async def fresh(self, ceph: S3Server, tmp_path: Path) -> AsyncIterator[S3Store]:
        async with fresh_bucket(settings_of(ceph, tmp_path)) as store:
            yield store


class TestWrapped(StoreContract):
    @pytest.fixture
    def memory(self) -> MemoryStore:
        return MemoryStore()

    @pytest.fixture
    async def store(self, memory: MemoryStore) -> AsyncIterator[Store]:
        store = retrying(limited(metered(memory, lambda *_: None), 64))
        yield store
        await store.aclose()

    @pytest.fixture
    def holder(self, memory: MemoryStore) -> Holder:
        return memory
