"""Every object below a prefix, a page at a time, so that memory does not grow with the bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator

from putgate_storage.store import Entry, Store


async def entries(store: Store, prefix: str) -> AsyncIterator[Entry]:
    """Raises `StoreError`. What is written or removed meanwhile may be shown or not."""
    token: str | None = None
    while True:
        page = await store.list(prefix, token=token)
        for entry in page.entries:
            yield entry
        if (token := page.token) is None:
            return
