"""Answers that are not the store's, or not what they seem: of proxies, of redirects, of connections that die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from putgate_protocol.settings.api import S3, Provider
from putgate_storage.errors import ConditionFailed, Permanent, Refused, StoreError, Transient, Unsupported
from putgate_storage.s3.driver import S3Store, open_store
from putgate_storage.store import FinishedPart, IfAbsent, IfMatch, StoreUpload

UPLOAD = StoreUpload(key="k", upload_id="u")
DESCRIBED = ('ETag: "e"', "Last-Modified: Tue, 24 Nov 2026 12:00:00 GMT")
ABORT_RULE = (
    b"<AbortIncompleteMultipartUpload><DaysAfterInitiation>3</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
)


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def error(code: str) -> bytes:
    return b"<Error><Code>%b</Code><Message>m</Message></Error>" % code.encode()


class Cut(bytes):
    """An answer after which the connection ends."""


@dataclass
class Canned:
    """Answers each request in turn; None ends the connection instead. Keeps what it was sent."""

    answers: list[bytes | None] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
                )
                if b"expect: 100-continue" in head.lower():
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0) if self.answers else http("500 Unexpected")
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
                if isinstance(answer, Cut):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@pytest.fixture
async def canned() -> AsyncIterator[Canned]:
    served = Canned()
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.port = server.sockets[0].getsockname()[1]
    yield served
    server.close()


@pytest.fixture
async def store(canned: Canned, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Store]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-token")
    opened = await open_store(S3(bucket="bucket", endpoint=f"http://127.0.0.1:{canned.port}"))
    yield opened
    await opened.aclose()


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
async def test_no_redirect_is_followed(canned: Canned, store: S3Store, status: str) -> None:
    canned.answers = [http(status, b"", f"Location: http://127.0.0.1:{canned.port}/elsewhere")]
    with pytest.raises((Permanent, Transient)):
        await store.put_small("k", b"secret content")
    assert len(canned.requests) == 1


async def test_the_region_that_an_error_names_is_not_tried(canned: Canned, store: S3Store) -> None:
    body = b"<Error><Code>PermanentRedirect</Code><Endpoint>127.0.0.1</Endpoint></Error>"
    canned.answers = [http("301 Moved", body, "x-amz-bucket-region: eu-west-1")]
    with pytest.raises(Permanent):
        await store.put_small("k", b"content")
    assert len(canned.requests) == 1


async def test_a_lost_answer_is_not_asked_for_again(canned: Canned, store: S3Store) -> None:
    """On a connection that has been used before: aiohttp by itself would send the write a second time."""
    canned.answers = [
        http("200 OK", b"", 'ETag: "e"'),
        None,
        http("412 Precondition Failed", error("PreconditionFailed")),
    ]
    await store.put_small("k", b"first")
    with pytest.raises(Transient):
        await store.put_small("k", b"second", condition=IfAbsent())
    assert len(canned.requests) == 2


PROXY_404 = (http("404 Not Found"), http("404 Not Found", b"<html>no such route</html>", "Content-Type: text/html"))
CALLS: dict[str, Callable[[S3Store], Awaitable[object]]] = {
    "list_parts": lambda store: store.list_parts(UPLOAD),
    "get_small": lambda store: store.get_small("k", 100),
    "put_small": lambda store: store.put_small("k", b"x"),
    "delete": lambda store: store.delete("k"),
    "abort": lambda store: store.abort(UPLOAD),
    "complete": lambda store: store.complete(UPLOAD, [FinishedPart(number=1, etag="e")]),
    "list": lambda store: store.list("p"),
    "copy_part": lambda store: store.copy_part(UPLOAD, 1, "source", span=None, source_etag=None),
    "delete_if_match": lambda store: store.delete_if_match("k", "e"),
    "list_uploads": lambda store: store.list_uploads("p"),
    "ensure_abort_rule": lambda store: store.ensure_abort_rule("rule", "", 7),
    "ensure_cors_rule": lambda store: store.ensure_cors_rule("rule", ["*"]),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("answer", PROXY_404, ids=["bare", "html"])
async def test_a_404_that_is_not_the_stores_says_nothing(
    canned: Canned, store: S3Store, call: str, answer: bytes
) -> None:
    canned.answers = [answer]
    with pytest.raises(Transient):
        await CALLS[call](store)
    assert len(canned.requests) == 1


@pytest.mark.parametrize("call", ["complete", "put_small", "delete"])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("PreconditionFailed", ConditionFailed),
        ("InvalidPart", Refused),
        ("AccessDenied", Permanent),
        ("InternalError", Transient),
        ("SlowDown", Transient),
    ],
)
async def test_an_error_in_a_200_is_that_error(
    canned: Canned, store: S3Store, code: str, kind: type[StoreError], call: str
) -> None:
    canned.answers = [http("200 OK", error(code), "Content-Type: application/xml")]
    with pytest.raises(kind):
        await CALLS[call](store)


@pytest.mark.parametrize("call", ["get_small", "put_small", "delete"])
async def test_a_page_of_somebody_else_is_no_success(canned: Canned, store: S3Store, call: str) -> None:
    canned.answers = [http("200 OK", b"<!DOCTYPE html><title>Log in to this network</title>")]
    with pytest.raises(Transient):
        await CALLS[call](store)


async def test_a_put_without_an_etag_may_not_have_happened(canned: Canned, store: S3Store) -> None:
    canned.answers = [http("200 OK")]
    with pytest.raises(Transient, match="without an ETag"):
        await store.put_small("k", b"x")


@pytest.mark.parametrize(("length", "read"), [(100, True), (101, False), (10_000_000, False)])
async def test_no_more_is_read_than_was_asked_for(canned: Canned, store: S3Store, length: int, read: bool) -> None:
    canned.answers = [http("200 OK", b"x" * length, *DESCRIBED)] * 2
    for _ in range(2):
        if read:
            found = await store.get_small("k", 100)
            assert found is not None
            assert found.body == b"x" * length
        else:
            with pytest.raises(Refused, match="larger than 100 bytes"):
                await store.get_small("k", 100)


async def test_a_length_that_is_not_said_is_held_as_well(canned: Canned, store: S3Store) -> None:
    head = "\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *DESCRIBED, "", ""]).encode()
    chunk = b"32\r\n" + b"x" * 50 + b"\r\n"
    canned.answers = [head + chunk * 2 + b"0\r\n\r\n", head + chunk * 3 + b"0\r\n\r\n"]
    found = await store.get_small("k", 100)
    assert found is not None
    assert found.body == b"x" * 100
    with pytest.raises(Refused, match="larger"):
        await store.get_small("k", 100)


async def test_content_that_is_cut_short_is_no_content(canned: Canned, store: S3Store) -> None:
    whole = http("200 OK", b"x" * 80, *DESCRIBED)
    canned.answers = [Cut(whole[:-1])]
    with pytest.raises(Transient):
        await store.get_small("k", 100)


@pytest.mark.parametrize("without", [0, 1])
async def test_content_without_an_etag_or_a_date_is_no_content(canned: Canned, store: S3Store, without: int) -> None:
    described = [header for number, header in enumerate(DESCRIBED) if number != without]
    canned.answers = [http("200 OK", b"x", *described)]
    with pytest.raises(Transient, match="without ETag or date"):
        await store.get_small("k", 100)


async def test_an_error_without_end_is_not_read_to_it(canned: Canned, store: S3Store) -> None:
    canned.answers = [http("503 Slow Down", error("SlowDown") + b" " * 10_000_000), http("204 No Content")]
    with pytest.raises(Transient):
        await store.delete("k")
    await store.delete("k")


async def test_records_are_signed_with_the_stores_time(canned: Canned, store: S3Store) -> None:
    """A host whose clock is wrong keeps its records too."""
    canned.answers = [http("204 No Content", b"", "Date: Wed, 01 Jan 2031 12:00:00 GMT")]
    canned.answers += [http("200 OK", b"x", 'ETag: "e"', *DESCRIBED), http("200 OK", b"", 'ETag: "e"')]
    await store.delete("k")
    await store.get_small("k", 100)
    await store.put_small("k", b"x")
    dated = [b"x-amz-date: 20310101t120" in request.lower() for request in canned.requests]
    assert dated == [False, True, True]


async def test_a_copy_without_an_etag_may_not_have_happened(canned: Canned, store: S3Store) -> None:
    canned.answers = [http("200 OK", b"<CopyPartResult></CopyPartResult>", "Content-Type: application/xml")]
    with pytest.raises(Transient, match="without an ETag"):
        await store.copy_part(UPLOAD, 1, "source", span=(0, 3), source_etag="e")
    assert b"bytes=0-3" in canned.requests[0]
    assert b'x-amz-copy-source-if-match: "e"' in canned.requests[0]


@pytest.mark.parametrize("said", [b"", b"<ChecksumSHA256>bm8gZGlnZXN0</ChecksumSHA256>"])
async def test_a_copys_digest_is_what_looks_like_one(canned: Canned, store: S3Store, said: bytes) -> None:
    canned.answers = [http("200 OK", b'<CopyPartResult><ETag>"e"</ETag>%b</CopyPartResult>' % said)]
    copied = await store.copy_part(UPLOAD, 1, "source", span=None, source_etag=None)
    assert (copied.etag, copied.sha256) == ("e", None)


@pytest.mark.parametrize(("provider", "sent"), [("Ceph", b"if-match: e\r\n"), ("MinIO", b'if-match: "e"\r\n')])
async def test_ceph_is_given_an_etag_without_quotes(
    canned: Canned, store: S3Store, provider: Provider, sent: bytes
) -> None:
    named = await open_store(S3(provider=provider, bucket="bucket", endpoint=f"http://127.0.0.1:{canned.port}"))
    canned.answers = [http("200 OK", b"", 'ETag: "f"'), http("204 No Content"), http("200 OK", b"<a/>")]
    await named.put_small("k", b"x", condition=IfMatch(etag="e"))
    await named.delete_if_match("k", "e")
    await named.complete(UPLOAD, [FinishedPart(number=1, etag="e")], IfMatch(etag="e"))
    await named.aclose()
    assert [sent in request.lower() for request in canned.requests] == [True] * 3


async def test_a_conditional_delete_of_nothing_has_failed(canned: Canned, store: S3Store) -> None:
    canned.answers = [http("404 Not Found", error("NoSuchKey"))]
    with pytest.raises(ConditionFailed):
        await store.delete_if_match("k", "e")


async def test_an_unknown_token_is_refused_however_the_store_says_so(canned: Canned, store: S3Store) -> None:
    canned.answers = [http("501 Not Implemented", error("NotImplemented"))] * 2
    with pytest.raises(Refused):
        await store.list("p", token="t")
    with pytest.raises(Unsupported):
        await store.list("p")


async def test_rules_with_settings_that_would_be_lost_are_left_alone(canned: Canned, store: S3Store) -> None:
    rule = b"<Rule><ID>theirs</ID><Status>Enabled</Status><Filter/><Odd>1</Odd>%b</Rule>" % ABORT_RULE
    canned.answers = [http("200 OK", b"<LifecycleConfiguration>%b</LifecycleConfiguration>" % rule)]
    with pytest.raises(Refused, match="Odd"):
        await store.ensure_abort_rule("ours", "p/", 7)
    assert len(canned.requests) == 1


async def test_other_rules_are_kept_as_they_are(canned: Canned, store: S3Store) -> None:
    theirs = b"<Rule><ID>theirs</ID><Status>Enabled</Status><Filter><Prefix>x/</Prefix></Filter>%b</Rule>" % ABORT_RULE
    ours = theirs.replace(b"theirs", b"ours").replace(b"x/", b"p/").replace(b">3<", b">7<")
    whole = b"<LifecycleConfiguration>%b</LifecycleConfiguration>"
    canned.answers = [
        http("200 OK", whole % theirs, "x-amz-transition-default-minimum-object-size: varies_by_storage_class"),
        http("200 OK"),
        http("200 OK", whole % (theirs + ours)),
    ]
    await store.ensure_abort_rule("ours", "p/", 7)
    put = canned.requests[1]
    assert b"<ID>theirs</ID>" in put
    assert b"<ID>ours</ID>" in put
    assert b"varies_by_storage_class" in put


def truncated(root: str, *fields: str) -> bytes:
    return http("200 OK", f"<{root}><IsTruncated>true</IsTruncated>{''.join(fields)}</{root}>".encode())


ENDLESS: list[tuple[list[bytes], Callable[[S3Store], Awaitable[object]]]] = [
    ([truncated("ListBucketResult")], lambda store: store.list("")),
    ([truncated("ListMultipartUploadsResult")], lambda store: store.list_uploads("")),
    (
        [truncated("ListMultipartUploadsResult", "<NextKeyMarker>a</NextKeyMarker>")] * 2,
        lambda store: store.list_uploads(""),
    ),
    ([truncated("ListVersionsResult")], lambda store: store.list_versions("")),
    (
        [truncated("ListVersionsResult", "<NextKeyMarker>a</NextKeyMarker>")],
        lambda store: store.list_versions("", token='["a", ""]'),
    ),
]


@pytest.mark.parametrize(("answers", "call"), ENDLESS)
async def test_a_listing_that_is_cut_short_is_no_whole_one(
    canned: Canned, store: S3Store, answers: list[bytes], call: Callable[[S3Store], Awaitable[object]]
) -> None:
    canned.answers = [*answers]
    with pytest.raises(Permanent) as raised:
        await call(store)
    assert raised.value.code == "ListingBroken"


async def test_cors_rules_with_settings_that_would_be_lost_are_left_alone(canned: Canned, store: S3Store) -> None:
    rule = b"<CORSRule><ID>theirs</ID><AllowedOrigin>*</AllowedOrigin><Odd>1</Odd></CORSRule>"
    canned.answers = [http("200 OK", b"<CORSConfiguration>%b</CORSConfiguration>" % rule)]
    with pytest.raises(Refused, match="Odd"):
        await store.ensure_cors_rule("ours", ["*"])
    assert len(canned.requests) == 1
