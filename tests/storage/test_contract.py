"""Every driver against the contract; wrapped ones too, since a wrapper is a store."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import closing

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
from tests.servers.seaweedfs import SeaweedFS
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


class TestSeaweedFSBucket(BucketContract):
    @pytest.fixture
    async def fresh(self, s3_settings: S3) -> AsyncIterator[S3Store]:
        store = await open_store(s3_settings.model_copy(update={"bucket": f"putgate-{secrets.token_hex(6)}"}))
        yield store
        # It would keep volumes that other buckets need.
        await store.delete_bucket()
        await store.aclose()

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
