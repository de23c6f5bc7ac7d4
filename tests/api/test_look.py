"""Looking at many names by LIST says exactly what looking at each by HEAD says, on stores of either order."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from putgate_api.uploads.batch import _AT_ONCE, batch
from putgate_api.uploads.look import look_many
from putgate_storage.memory import MemoryStore
from putgate_storage.store import Entry, Head, Page
from tests.api.memory_bucket import PREFIX, bucket, caller, request

SEGMENT = st.text(alphabet="ab!.-0", min_size=1, max_size=4).filter(lambda text: text not in {".", ".."})
KEYS = st.lists(st.lists(SEGMENT, min_size=1, max_size=3).map("/".join), min_size=1, max_size=40, unique=True)


class FolderOrder(MemoryStore):
    """Lists as SeaweedFS does: a folder sorts as its name without the slash, and starting after a folder's own name
    loses what is in it.
    """

    def __init__(self, page: int) -> None:
        super().__init__()
        self.page = page

    async def list(self, prefix: str, *, start_after: str | None = None, token: str | None = None, **_: Any) -> Page:
        after = token or start_after
        keys = sorted((key for key in self.objects if key.startswith(prefix)), key=lambda key: key.split("/"))
        if after is not None:
            keys = [k for k in keys if k.split("/") > after.split("/") and not k.startswith(f"{after}/")]
        shown = keys[: self.page]
        entries = [Entry(key=key, size=0, etag="e", modified=datetime.now(UTC)) for key in shown]
        return Page(entries=entries, prefixes=[], token=shown[-1] if len(keys) > len(shown) else None)


class ByteOrder(MemoryStore):
    def __init__(self, page: int) -> None:
        super().__init__()
        self.page = page

    async def list(self, prefix: str, *, start_after: str | None = None, token: str | None = None, **_: Any) -> Page:
        return await super().list(prefix, start_after=start_after, token=token, limit=self.page)


@settings(max_examples=300, deadline=None)
@given(stored=KEYS, asked=KEYS, page=st.integers(1, 10), folders=st.booleans())
def test_many_looks_equal_single_looks(stored: list[str], asked: list[str], page: int, *, folders: bool) -> None:
    async def run() -> None:
        store = FolderOrder(page) if folders else ByteOrder(page)
        for key in stored:
            await store.put_small(key, b"x")
        seen = await look_many(store, asked, at_once=3)
        assert set(seen) == set(asked)
        assert {key for key, head in seen.items() if head is not None} == set(stored) & set(asked)

    asyncio.run(run())


class Crowded(MemoryStore):
    """How many looks there were at once, at the most."""

    def __init__(self) -> None:
        super().__init__()
        self.now_looking = self.looks = self.most = 0

    async def head(self, key: str) -> Head | None:
        self.looks += 1
        self.now_looking += 1
        self.most = max(self.most, self.now_looking)
        await asyncio.sleep(0)
        self.now_looking -= 1
        return await super().head(key)


async def test_a_batch_looks_at_a_few_files_at_once() -> None:
    store = Crowded()
    names = [f"there/{number:04}" for number in range(1000)]
    for name in names:
        await store.put_small(PREFIX + name, b"x")
    outcomes = await batch(bucket(store), caller(), [{"initiate": request(name, b"x").to_wire()} for name in names])
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert store.looks >= len(names)
    assert store.most == _AT_ONCE
