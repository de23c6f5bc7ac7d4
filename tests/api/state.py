"""What a bucket holds, seen behind the API's back: every key, Putgate's own too, and every open upload."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from putgate_protocol.settings.api import S3, Credentials
from putgate_storage.s3.driver import S3Store, open_store
from tests.servers.api import ApiProcess


@dataclass(frozen=True, slots=True)
class BucketState:
    keys: tuple[tuple[str, str], ...]
    uploads: tuple[str, ...]

    def names(self, prefix: str) -> list[str]:
        """Keys of files, without Putgate's own records."""
        return [key.removeprefix(prefix) for key, _ in self.keys if "/.putgate/" not in f"/{key}"]


async def state_of(store: S3Store, prefix: str) -> BucketState:
    keys: list[tuple[str, str]] = []
    token: str | None = None
    while True:
        page = await store.list(prefix, token=token)
        keys.extend((entry.key, entry.etag) for entry in page.entries)
        if (token := page.token) is None:
            break
    uploads = [found.upload.upload_id for found in await store.list_uploads(prefix)]
    return BucketState(keys=tuple(sorted(keys)), uploads=tuple(sorted(uploads)))


@asynccontextmanager
async def store_of(api: ApiProcess) -> AsyncIterator[S3Store]:
    """The test store, dialled without the API."""
    settings = S3(
        provider="SeaweedFS",
        bucket=api.store.bucket,
        endpoint=api.store.endpoint,
        credentials=Credentials(
            type="Files",
            access_key_id_file=api.folder / "access-key",
            secret_access_key_file=api.folder / "secret-key",
        ),
    )
    store = await open_store(settings)
    try:
        yield store
    finally:
        await store.aclose()
