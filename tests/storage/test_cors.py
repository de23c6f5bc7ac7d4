"""The one CORS rule of ours: it comes and goes, other rules stay, and browsers' preflights go by it on a real store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import aiohttp
import pytest

from putgate_storage.errors import Refused
from putgate_storage.s3.cors import wanted_rule, with_rule
from putgate_storage.s3.driver import S3Store
from tests.servers.seaweedfs import SeaweedFS

THEIRS: dict[str, Any] = {
    "ID": "somebody-elses",
    "AllowedOrigins": ["https://theirs.example"],
    "AllowedMethods": ["GET"],
    "AllowedHeaders": ["x-one", "x-two"],
    "MaxAgeSeconds": 5,
}
PAGE = "https://app.example"


@pytest.fixture
def client(seaweedfs: SeaweedFS) -> Iterator[Any]:
    with closing(seaweedfs.client()) as client:
        client.delete_bucket_cors(Bucket=seaweedfs.bucket)
        yield client
        client.delete_bucket_cors(Bucket=seaweedfs.bucket)


def test_a_rule_is_written_only_where_it_differs() -> None:
    ours = wanted_rule("ours", [PAGE])
    assert with_rule([], "ours", [PAGE]) == [ours]
    assert with_rule([ours], "ours", [PAGE]) is None
    assert with_rule([], "ours", []) is None
    assert with_rule([ours], "ours", []) == []
    theirs: Any = THEIRS
    assert with_rule([ours, theirs], "ours", ["*"]) == [theirs, wanted_rule("ours", ["*"])]
    assert with_rule([ours, theirs, ours], "ours", [PAGE]) == [theirs, ours], "one of each"
    shuffled: Any = ours | {
        "AllowedMethods": ["PUT", "GET", "HEAD"],
        "ExposeHeaders": [each.lower() for each in ours["ExposeHeaders"]],
    }
    assert with_rule([shuffled], "ours", [PAGE]) is None


async def test_other_rules_stay_as_they_are(s3_store: S3Store, seaweedfs: SeaweedFS, client: Any) -> None:
    bucket = seaweedfs.bucket
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [THEIRS]})
    for origins in ([PAGE], [PAGE], [PAGE, "http://127.0.0.1:8000"]):
        await s3_store.ensure_cors_rule("ours", origins)
    theirs, ours = client.get_bucket_cors(Bucket=bucket)["CORSRules"]
    assert {key: theirs[key] for key in THEIRS} == THEIRS
    assert ours["AllowedOrigins"] == [PAGE, "http://127.0.0.1:8000"]
    await s3_store.ensure_cors_rule("ours", [])
    (left,) = client.get_bucket_cors(Bucket=bucket)["CORSRules"]
    assert {key: left[key] for key in THEIRS} == THEIRS


async def test_the_last_rule_leaves_none(s3_store: S3Store, seaweedfs: SeaweedFS, client: Any) -> None:
    await s3_store.ensure_cors_rule("ours", [PAGE])
    await s3_store.ensure_cors_rule("ours", [])
    with pytest.raises(client.exceptions.ClientError, match="NoSuchCORSConfiguration"):
        client.get_bucket_cors(Bucket=seaweedfs.bucket)


async def test_a_store_lets_exactly_these_origins_through(
    s3_store: S3Store, http: aiohttp.ClientSession, seaweedfs: SeaweedFS, client: Any, prefix: str
) -> None:
    await s3_store.ensure_cors_rule("ours", [PAGE])

    async def allowed(origin: str, method: str) -> str | None:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "content-type,if-none-match,x-amz-checksum-sha256,x-amz-meta-a",
        }
        async with http.options(f"{seaweedfs.endpoint}/{seaweedfs.bucket}/{prefix}x", headers=headers) as answer:
            # SeaweedFS names the origin for a method that it does not allow; browsers look at both.
            methods = answer.headers.get("Access-Control-Allow-Methods", "").replace(" ", "").split(",")
            return answer.headers.get("Access-Control-Allow-Origin") if method in methods else None

    assert await allowed(PAGE, "PUT") == PAGE
    assert await allowed(PAGE, "GET") == PAGE
    assert await allowed(PAGE, "DELETE") is None
    assert await allowed("https://other.example", "PUT") is None


async def test_a_store_that_keeps_something_else_is_told_of(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch, client: Any
) -> None:
    async def forgetful(**_: object) -> dict[str, object]:
        return {"ResponseMetadata": {}}

    monkeypatch.setattr(s3_store._client, "put_bucket_cors", forgetful)
    with pytest.raises(Refused) as caught:
        await s3_store.ensure_cors_rule("ours", [PAGE])
    assert caught.value.code == "CorsNotKept"
