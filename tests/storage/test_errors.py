"""Which of the store's answers become which of our errors, over a real connection."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from putgate_protocol.settings.api import S3
from putgate_storage.errors import ConditionFailed, Permanent, Refused, StoreError, Transient, Unsupported
from putgate_storage.s3.driver import S3Store, open_store
from putgate_storage.store import Condition, FinishedPart, IfAbsent, IfMatch, ObjectHeaders, StoreUpload
from tests.servers.ports import free_port
from tests.storage.canned import Canned, canned_store, error, truncating_store
from tests.storage.conftest import credential_files

UPLOAD = StoreUpload(key="k", upload_id="u")
PARTS = [FinishedPart(number=1, etag="e")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


async def opened(endpoint: str, folder: Path) -> S3Store:
    credentials = credential_files(folder, "hush-access", "hush-secret")
    return await open_store(S3(bucket="bucket", endpoint=endpoint, credentials=credentials))


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (error(500, "InternalError"), Transient, "InternalError"),
        (error(502, "BadGateway"), Transient, "BadGateway"),
        (error(503, "SlowDown"), Transient, "SlowDown"),
        (Canned(status=503, body=b"<html>down</html>"), Transient, "503"),
        (error(429, "TooManyRequests"), Transient, "TooManyRequests"),
        (error(400, "RequestTimeout"), Transient, "RequestTimeout"),
        (error(409, "OperationAborted"), Transient, "OperationAborted"),
        (Canned(cut=True), Transient, "ConnectionClosedError"),
        (error(404, "NoSuchBucket"), Permanent, "NoSuchBucket"),
        (error(403, "AccessDenied"), Permanent, "AccessDenied"),
        (error(403, "InvalidAccessKeyId"), Permanent, "InvalidAccessKeyId"),
        (error(403, "SignatureDoesNotMatch"), Permanent, "SignatureDoesNotMatch"),
        (error(403, "RequestTimeTooSkewed"), Permanent, "RequestTimeTooSkewed"),
        (error(400, "AuthorizationHeaderMalformed"), Permanent, "AuthorizationHeaderMalformed"),
        (error(501, "NotImplemented"), Unsupported, "NotImplemented"),
        (error(412, "PreconditionFailed"), ConditionFailed, "PreconditionFailed"),
        (error(400, "InvalidArgument"), Refused, "InvalidArgument"),
    ],
    ids=lambda value: None if isinstance(value, Canned | type) else str(value),
)
async def test_answers_to_a_write(answer: Canned, kind: type[StoreError], code: str, folder: Path) -> None:
    async with canned_store(lambda _: answer) as endpoint:
        store = await opened(endpoint, folder)
        with pytest.raises(StoreError) as raised:
            await store.put_small("some/key", b"x")
        await store.aclose()
    assert type(raised.value) is kind
    assert raised.value.code == code
    assert "PutObject 'some/key'" in str(raised.value)
    assert "hush" not in str(raised.value)
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize(("status", "code"), [(400, "ExpiredToken"), (403, "InvalidAccessKeyId")])
async def test_a_head_that_is_refused_learns_why(status: int, code: str, folder: Path) -> None:
    """The answer to it has no body; another call's has."""
    async with canned_store(lambda _: error(status, code)) as endpoint:
        store = await opened(endpoint, folder)
        with pytest.raises(Permanent) as raised:
            await store.head("some/key")
        await store.aclose()
    assert raised.value.code == code
    assert "HeadObject 'some/key'" in str(raised.value)


@pytest.mark.parametrize(
    ("status", "code", "condition", "kind"),
    [
        (409, "ConditionalRequestConflict", IfAbsent(), Transient),
        (409, "BlobAlreadyExists", IfAbsent(), ConditionFailed),
        (404, "NoSuchKey", IfMatch(etag="e"), ConditionFailed),
        (404, "NoSuchKey", None, Refused),
        (409, "SomethingElse", None, Refused),
    ],
)
async def test_answers_to_a_conditional_write(
    status: int, code: str, condition: Condition | None, kind: type[StoreError], folder: Path
) -> None:
    async with canned_store(lambda _: error(status, code)) as endpoint:
        store = await opened(endpoint, folder)
        with pytest.raises(kind) as raised:
            await store.put_small("k", b"x", condition=condition)
        await store.aclose()
    assert isinstance(raised.value, ConditionFailed) == (kind is ConditionFailed)


async def test_the_store_says_how_long_to_wait(folder: Path) -> None:
    async with canned_store(lambda _: error(503, "SlowDown", Retry_After="7")) as endpoint:
        store = await opened(endpoint, folder)
        with pytest.raises(Transient) as raised:
            await store.head("k")
        await store.aclose()
    assert raised.value.delay == 7


async def test_nobody_listens(folder: Path) -> None:
    store = await opened(f"http://127.0.0.1:{free_port()}", folder)
    with pytest.raises(Transient):
        await store.head("k")
    await store.aclose()


async def test_the_driver_does_not_retry(folder: Path) -> None:
    calls: list[str] = []

    def answer(request: object) -> Canned:
        calls.append("call")
        return error(503, "SlowDown")

    async with canned_store(answer) as endpoint:
        store = await opened(endpoint, folder)
        with pytest.raises(Transient):
            await store.create_upload("k", ObjectHeaders())
        await store.aclose()
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("code", "kind"), [("InternalError", Transient), ("SlowDown", Transient), ("InvalidPart", StoreError)]
)
async def test_a_complete_that_fails_under_200_has_failed(code: str, kind: type[StoreError], folder: Path) -> None:
    """S3 sends 200 at once and the outcome later."""
    answer = Canned(body=error(200, code).body, headers={"Content-Type": "application/xml"})
    async with canned_store(lambda _: answer) as endpoint:
        store = await opened(endpoint, folder)
        with pytest.raises(kind):
            await store.complete(UPLOAD, PARTS)
        await store.aclose()


async def test_no_such_upload_is_none(folder: Path) -> None:
    async with canned_store(lambda _: error(404, "NoSuchUpload")) as endpoint:
        store = await opened(endpoint, folder)
        assert await store.complete(UPLOAD, PARTS) is None
        assert await store.list_parts(UPLOAD) is None
        assert await store.abort(UPLOAD) is False
        await store.aclose()


async def test_a_bucket_that_is_not_there(folder: Path) -> None:
    async with canned_store(lambda _: Canned(status=404)) as endpoint:
        store = await opened(endpoint, folder)
        assert await store.bucket_exists() is False
        await store.aclose()


async def test_a_body_that_breaks_off_is_transient(folder: Path) -> None:
    headers = {"ETag": '"e"', "Last-Modified": "Sun, 22 Nov 2026 12:00:00 GMT"}
    async with truncating_store(headers) as endpoint:
        store = await opened(endpoint, folder)
        with pytest.raises(Transient):
            await store.get_small("k", 1000)
        await store.aclose()


@pytest.mark.parametrize("missing", ["access-key", "secret-key"])
async def test_empty_credentials_are_said_at_once(missing: str, folder: Path) -> None:
    settings = S3(
        bucket="bucket", endpoint="http://127.0.0.1:1", credentials=credential_files(folder, "access", "secret")
    )
    (folder / missing).write_text("\n")
    with pytest.raises(Permanent) as raised:
        await open_store(settings)
    assert raised.value.code == "SecretKeyMissing"


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("http://127.0.0.1:{port}", "connection refused"),
        ("http://no-such-store.invalid", "the endpoint's name cannot be resolved"),
    ],
)
async def test_why_there_is_no_answer_is_said(endpoint: str, why: str, folder: Path) -> None:
    store = await opened(endpoint.format(port=free_port()), folder)
    with pytest.raises(Transient, match=why):
        await store.head("k")
    await store.aclose()


async def test_a_store_that_is_silent_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("putgate_storage.s3.driver._READ_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = await opened(f"http://127.0.0.1:{silent.getsockname()[1]}", folder)
        with pytest.raises(Transient, match="no answer in time"):
            await store.head("k")
        await store.aclose()


async def test_the_region_that_a_bucket_is_in_is_said(folder: Path) -> None:
    async with canned_store(lambda _: error(301, "PermanentRedirect", x_amz_bucket_region="eu-south-7")) as endpoint:
        store = await opened(endpoint, folder)
        with pytest.raises(Permanent, match="the bucket is in region eu-south-7") as raised:
            await store.list("")
        await store.aclose()
    assert raised.value.code == "PermanentRedirect"
