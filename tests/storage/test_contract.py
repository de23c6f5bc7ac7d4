"""Every driver against the contract; wrapped ones too, since a wrapper is a store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from yarl import URL

from putgate_storage.memory import MemoryStore
from putgate_storage.probe.sender import HttpSender
from putgate_storage.s3.driver import S3Store
from putgate_storage.store import SignedRequest, Store
from putgate_storage.wrap.limit import limited
from putgate_storage.wrap.meter import metered
from putgate_storage.wrap.retry import retrying
from tests.storage.contract import Holder, StoreContract


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
