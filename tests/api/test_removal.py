"""A file is removed whatever it is, or only if it is a given version: as sure as the store is."""

from __future__ import annotations

import aiohttp
import pytest

from putgate_api.files import remove
from putgate_protocol.names import Name
from putgate_protocol.problems import Problem
from putgate_storage.memory import MemoryStore
from tests.api.calls import Calls
from tests.api.memory_bucket import PREFIX, Clock, bucket, caller, memory_store
from tests.servers.api import ApiProcess

NAME = Name(b"a")
KEY = f"{PREFIX}a"


@pytest.fixture
def store() -> MemoryStore:
    return memory_store(Clock())


async def refused(store: MemoryStore, if_match: str | None, **abilities: bool) -> str:
    with pytest.raises(Problem) as raised:
        await remove(bucket(store, **abilities), caller(), NAME, if_match=if_match)
    return raised.value.code


async def test_only_the_given_version_is_removed(store: MemoryStore) -> None:
    old = await store.put_small(KEY, b"old")
    new = await store.put_small(KEY, b"new")
    assert await refused(store, old) == "precondition_failed"
    assert await refused(store, "*") == "precondition_failed"
    assert KEY in store.objects
    await remove(bucket(store), caller(), NAME, if_match=new)
    assert KEY not in store.objects
    assert await refused(store, new) == "not_found"


async def test_a_store_that_ignores_the_condition_is_not_asked(store: MemoryStore) -> None:
    version = await store.put_small(KEY, b"x")
    assert await refused(store, version, conditional_delete=False) == "precondition_unsupported"
    assert KEY in store.objects


async def test_what_is_replaced_between_the_look_and_the_removal_stays(store: MemoryStore) -> None:
    version = await store.put_small(KEY, b"old")

    class Replaced(MemoryStore):
        async def delete_if_match(self, key: str, etag: str) -> None:
            await self.put_small(key, b"new")
            await super().delete_if_match(key, etag)

    replaced = Replaced(limits=store.limits, clock=Clock())
    replaced.objects.update(store.objects)
    assert await refused(replaced, version) == "precondition_failed"
    assert replaced.objects[KEY].body == b"new"


async def test_over_http_on_a_real_store(http: aiohttp.ClientSession, shared_api: ApiProcess) -> None:
    calls = Calls(http, shared_api.url, shared_api.token)
    old = (await calls.upload("removal/a", b"old"))["version"]
    new = (await calls.upload("removal/a", b"new"))["version"]
    assert (await calls.file("DELETE", "removal/a", {"If-Match": f'"{old}"'}))[0] == 412
    assert await calls.download("removal/a") == b"new"
    for version, status in ((new, 204), (f'"{new}"', 404)):
        assert (await calls.file("DELETE", "removal/a", {"If-Match": version}))[0] == status
