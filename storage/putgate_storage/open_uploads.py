"""Every open upload below a prefix, a page at a time: each page is a call of its own, with its own time and retries."""

from __future__ import annotations

from collections.abc import AsyncIterator

from putgate_storage.store import ListsUploads, OpenUpload


async def open_uploads(store: ListsUploads, prefix: str) -> AsyncIterator[OpenUpload]:
    """Raises `StoreError`. What is begun or ends meanwhile may be shown or not."""
    token: str | None = None
    while True:
        page = await store.list_uploads_page(prefix, token=token)
        for found in page.uploads:
            yield found
        if (token := page.token) is None:
            return
