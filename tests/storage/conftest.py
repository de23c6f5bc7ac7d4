"""Stores for the storage tests: SeaweedFS, MinIO and Ceph through the S3 driver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from putgate_protocol.settings.api import S3, Credentials
from putgate_storage.s3.driver import S3Store, open_store
from tests.servers.s3 import S3Server
from tests.servers.seaweedfs import SeaweedFS


def credential_files(folder: Path, access_key: str, secret_key: str, token: str | None = None) -> Credentials:
    values = {"access-key": access_key, "secret-key": secret_key, "token": token}
    for name, value in values.items():
        if value is not None:
            (folder / name).write_text(f"{value}\n")
    return Credentials(
        type="Files",
        access_key_id_file=folder / "access-key",
        secret_access_key_file=folder / "secret-key",
        session_token_file=folder / "token" if token is not None else None,
    )


@pytest.fixture
def s3_settings(seaweedfs: SeaweedFS, tmp_path: Path) -> S3:
    return S3(
        provider="SeaweedFS",
        bucket=seaweedfs.bucket,
        region=seaweedfs.region,
        endpoint=seaweedfs.endpoint,
        credentials=credential_files(tmp_path, seaweedfs.access_key, seaweedfs.secret_key),
    )


@pytest.fixture
async def s3_store(s3_settings: S3) -> AsyncIterator[S3Store]:
    store = await open_store(s3_settings)
    yield store
    await store.aclose()


def settings_of(server: S3Server, folder: Path) -> S3:
    identity = server.identity
    return S3(
        provider=server.provider,
        bucket=server.bucket,
        endpoint=server.endpoint,
        credentials=credential_files(folder, identity.access_key, identity.secret_key, identity.token),
    )


@pytest.fixture
async def minio_store(minio: S3Server, tmp_path: Path) -> AsyncIterator[S3Store]:
    store = await open_store(settings_of(minio, tmp_path))
    yield store
    await store.aclose()


@pytest.fixture
async def ceph_store(ceph: S3Server, tmp_path: Path) -> AsyncIterator[S3Store]:
    store = await open_store(settings_of(ceph, tmp_path))
    yield store
    await store.aclose()
