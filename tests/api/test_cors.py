"""Pages of other origins: at the API exactly those of the settings are let through, and the bucket gets its rule."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl

from putgate_protocol.problems import HEADER_CODE
from tests.api.in_cluster import condition, give_credentials, in_cluster, until_ready
from tests.servers.api import ApiProcess
from tests.servers.proxy import running
from tests.servers.proxy_calls import kind
from tests.servers.proxy_faults import Answer
from tests.servers.s3 import S3Server
from tests.servers.seaweedfs import SeaweedFS

PAGE, OTHER = "https://app.example", "https://other.example"
ALLOWED = "Access-Control-Allow-Origin"


@asynccontextmanager
async def asked(
    http: aiohttp.ClientSession, method: str, url: str, **headers: str
) -> AsyncIterator[tuple[int, Mapping[str, str]]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.request(method, yarl.URL(url, encoded=True), headers=named, allow_redirects=False) as answer:
        yield answer.status, answer.headers


def preflight(http: aiohttp.ClientSession, url: str, origin: str, method: str = "POST") -> Any:
    return asked(
        http,
        "OPTIONS",
        url,
        Origin=origin,
        Access_Control_Request_Method=method,
        Access_Control_Request_Headers="authorization,content-type,if-match,x-request-id",
    )


class TestApi:
    @pytest.fixture
    def api(self, tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> Iterator[ApiProcess]:
        process = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix)
        process.settings["cors"] = {"allowed_origins": [PAGE, "http://localhost:3000"]}
        process.start_probed()
        yield process
        process.kill()

    async def test_exactly_these_origins_are_let_through(self, http: aiohttp.ClientSession, api: ApiProcess) -> None:
        for path in ("/object/batch", "/object/part_limit", "/files", "/files/a%0Ab/c", "/openapi.json"):
            for origin in (PAGE, "http://localhost:3000"):
                async with preflight(http, api.url + path, origin) as (status, headers):
                    assert (status, headers[ALLOWED], headers["Vary"]) == (204, origin, "Origin")
                    methods = headers["Access-Control-Allow-Methods"].split(", ")
                    assert sorted(methods) == ["DELETE", "GET", "HEAD", "POST"]
                    sent = headers["Access-Control-Allow-Headers"].lower().split(", ")
                    assert {"authorization", "content-type", "if-match", "x-request-id"} <= set(sent)
                    assert "Access-Control-Allow-Credentials" not in headers
            for origin in (OTHER, "null", PAGE + ".evil.example", PAGE + ":444", PAGE.upper(), "*"):
                async with preflight(http, api.url + path, origin) as (_, headers):
                    assert ALLOWED not in headers
                    assert headers["Vary"] == "Origin", "else a cache would answer one origin with another's answer"

    async def test_answers_and_problems_say_so_too(self, http: aiohttp.ClientSession, api: ApiProcess) -> None:
        token = f"Bearer {api.token}"
        for path, status in (("/object/part_limit", 200), ("/files/none", 404), ("/no/such/call", 404)):
            async with asked(http, "GET", api.url + path, Origin=PAGE, Authorization=token) as (found, headers):
                assert (found, headers[ALLOWED]) == (status, PAGE)
                exposed = headers["Access-Control-Expose-Headers"].lower().split(", ")
                assert {"etag", "x-request-id", "retry-after", HEADER_CODE.lower()} <= set(exposed)
            async with asked(http, "GET", api.url + path, Origin=OTHER, Authorization=token) as (found, headers):
                assert found == status, "who is no browser is not kept out by its Origin"
                assert ALLOWED not in headers
        async with asked(http, "GET", api.url + "/object/part_limit", Origin=PAGE) as (found, headers):
            assert (found, headers[ALLOWED]) == (401, PAGE), "a page must be able to read why"

    async def test_all_origins(self, http: aiohttp.ClientSession, api: ApiProcess) -> None:
        api.stop()
        api.settings["cors"] = {"allowed_origins": ["*"]}
        api.start_probed()
        async with preflight(http, api.url + "/files/x", OTHER, "DELETE") as (status, headers):
            assert (status, headers[ALLOWED]) == (204, "*")
            assert "Vary" not in headers


async def test_without_the_setting_nobody_is(http: aiohttp.ClientSession, shared_api: ApiProcess) -> None:
    async with preflight(http, shared_api.url + "/object/batch", PAGE) as (status, headers):
        assert status == 404
        assert not [name for name in headers if name.lower().startswith("access-control")]
    async with asked(http, "GET", shared_api.url + "/openapi.json", Origin=PAGE) as (status, headers):
        assert status == 200
        assert ALLOWED not in headers


class TestBucket:
    @pytest.fixture
    def api(self, tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> Iterator[ApiProcess]:
        """Configured and not running."""
        process = in_cluster(ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix))
        process.settings["storage"]["cors"] = {"allowed_origins": [PAGE]}
        yield process
        process.kill()
        with closing(seaweedfs.client()) as client:
            client.delete_bucket_cors(Bucket=seaweedfs.bucket)

    def test_the_bucket_gets_the_rule_and_loses_it_again(self, api: ApiProcess, seaweedfs: SeaweedFS) -> None:
        theirs = {"ID": "theirs", "AllowedOrigins": [OTHER], "AllowedMethods": ["GET"]}
        with closing(seaweedfs.client()) as client:
            client.put_bucket_cors(Bucket=seaweedfs.bucket, CORSConfiguration={"CORSRules": [theirs]})
            for origins in ([PAGE], [PAGE, OTHER], []):
                api.settings["storage"]["cors"] = {"allowed_origins": origins}
                api.start_probed()
                configured = condition(until_ready(api), "BucketConfigured")
                assert (configured.status, configured.reason) == ("True", "Configured")
                assert ("web pages" in configured.message) is bool(origins)
                rules = {rule["ID"]: rule for rule in client.get_bucket_cors(Bucket=seaweedfs.bucket)["CORSRules"]}
                assert rules.pop("theirs")["AllowedOrigins"] == [OTHER]
                assert [rule["AllowedOrigins"] for rule in rules.values()] == ([origins] if origins else [])
                api.stop()

    def test_observing_writes_no_rule(self, api: ApiProcess, seaweedfs: SeaweedFS) -> None:
        api.settings["storage"]["management"] = "Observe"
        with running(seaweedfs.endpoint) as proxy:
            api.settings["storage"]["s3"]["endpoint"] = proxy.url
            api.start_probed()
            until_ready(api)
            asked_of = {call.kind for call in proxy.requests}
        assert not [each for each in asked_of if each.endswith(("Cors", "Lifecycle"))]

    @pytest.mark.parametrize(
        ("status", "code", "reason"),
        [(403, "AccessDenied", "CorsAccessDenied"), (501, "NotImplemented", "CorsUnsupported")],
    )
    def test_a_store_that_takes_no_rule_serves_and_it_is_told(
        self, api: ApiProcess, seaweedfs: SeaweedFS, status: int, code: str, reason: str
    ) -> None:
        with running(seaweedfs.endpoint) as proxy:
            body = f"<Error><Code>{code}</Code></Error>".encode()
            proxy.rule(kind("PutCors"), Answer(status=status, body=body))
            api.settings["storage"]["s3"]["endpoint"] = proxy.url
            api.start_probed()
            report = until_ready(api)
            configured = condition(report, "BucketConfigured")
            assert (configured.status, configured.reason, configured.user_error) == ("False", reason, False)
            assert report.state == "Ready"
            api.stop()
            # Who wants no pages is not told of what they would miss.
            proxy.rule(kind("GetCors"), Answer(status=status, body=body))
            del api.settings["storage"]["cors"]
            api.start_probed()
            assert condition(until_ready(api), "BucketConfigured").status == "True"

    def test_minio_has_no_such_rules(self, api: ApiProcess, minio: S3Server) -> None:
        api.settings["storage"]["s3"] |= {"provider": "MinIO", "endpoint": minio.endpoint, "bucket": minio.bucket}
        give_credentials(api, minio.identity.access_key, minio.identity.secret_key)
        api.start_probed()
        report = until_ready(api)
        configured = condition(report, "BucketConfigured")
        assert report.state == "Ready"
        assert (configured.status, configured.user_error) == ("False", False)
        assert "abandoned uploads" in configured.message
        assert "no CORS rule for web pages" in configured.message, "of two troubles, both are told"
        assert PAGE in configured.message, "it says whom to allow in another way"
