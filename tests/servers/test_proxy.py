"""The proxy itself, in front of a plain HTTP server that remembers what it got."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import threading
import time
from collections.abc import AsyncIterator, Iterator

import aiohttp
import botocore.session
import pytest
from aiohttp import web
from botocore.config import Config
from yarl import URL

from tests.servers.proxy import StoreProxy
from tests.servers.proxy_calls import Head, api_kind, every, kind, nth, s3_kind
from tests.servers.proxy_faults import Answer, Cut, CutAnswer, CutBefore, Delay, FlipAnswerBit, FlipBit, LoseAnswer
from tests.servers.seaweedfs import SeaweedFS

SIGNED = "X-Amz-Signature=0"


class Upstream:
    """An HTTP server on a thread-free loop: the test's own. Keeps each request's line, Host and body digest."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str, str]] = []
        self.arrived: list[int] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        digest, size = hashlib.sha256(), 0
        if request.path == "/b/early":
            return web.Response(status=403, text="no")
        try:
            async for chunk in request.content.iter_any():
                digest.update(chunk)
                size += len(chunk)
        finally:
            self.arrived.append(size)
        self.seen.append((request.method, request.raw_path, request.headers["Host"], digest.hexdigest()))
        if request.path == "/b/chunked":
            answer = web.StreamResponse()
            answer.enable_chunked_encoding()
            await answer.prepare(request)
            await answer.write(b"one")
            await answer.write(b"two")
            return answer
        if "size" in request.query:
            return web.Response(body=bytes(int(request.query["size"])))
        return web.Response(text="ok", headers={"ETag": '"e"'})


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(app, auto_decompress=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[StoreProxy]:
    with StoreProxy(upstream.url) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        session._retry_connection = False  # else aiohttp sends an idempotent request a second time by itself
        yield session


def at(proxy: StoreProxy, target: str) -> URL:
    return URL(proxy.url + target, encoded=True)


async def test_target_and_host_pass_byte_for_byte(
    proxy: StoreProxy, upstream: Upstream, http: aiohttp.ClientSession
) -> None:
    target = "/b/a%2Fb//c%25+%C3%A9~?x-id=PutObject&X-Amz-Signature=a%2Fb%3D&z"
    async with http.put(at(proxy, target), data=b"hello") as answer:
        assert (answer.status, await answer.text(), answer.headers["ETag"]) == (200, "ok", '"e"')
    method, raw, host, digest = upstream.seen[0]
    assert (method, raw, host) == ("PUT", target, proxy.url.removeprefix("http://"))
    assert digest == hashlib.sha256(b"hello").hexdigest()


async def test_counts_signed_and_control_bytes_apart(proxy: StoreProxy, http: aiohttp.ClientSession) -> None:
    async with http.put(at(proxy, f"/b/k?{SIGNED}"), data=b"12345"):
        pass
    async with http.put(at(proxy, "/b/k"), data=b"123"):
        pass
    async with http.post(at(proxy, "/b/k?uploads"), data=b""):
        pass
    assert proxy.counts == {"PutObject": 2, "CreateMultipartUpload": 1}
    assert (proxy.put_body_bytes, proxy.control_body_bytes, proxy.total) == (5, 3, 3)
    call = proxy.requests[0]
    assert (call.kind, call.key, call.presigned, call.status, call.body_bytes) == ("PutObject", b"k", True, 200, 5)
    proxy.reset()
    assert (proxy.total, proxy.put_body_bytes, proxy.requests) == (0, 0, [])


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("PUT", "/b/k/l", "PutObject"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", "UploadPart"),
        ("POST", "/b/k?uploads", "CreateMultipartUpload"),
        ("POST", "/b/k?uploads=", "CreateMultipartUpload"),
        ("POST", "/b/k?uploadId=u", "CompleteMultipartUpload"),
        ("DELETE", "/b/k?uploadId=u", "AbortMultipartUpload"),
        ("GET", "/b/k?uploadId=u&max-parts=5", "ListParts"),
        ("GET", "/b?list-type=2&prefix=x", "ListObjects"),
        ("GET", "/b?uploads", "ListUploads"),
        ("HEAD", "/b/k", "HeadObject"),
        ("HEAD", "/b", "HeadBucket"),
        ("GET", "/b/k", "GetObject"),
        ("DELETE", "/b/k", "DeleteObject"),
        ("POST", "/b?delete", "DeleteObjects"),
        ("PUT", "/b", "CreateBucket"),
        ("PUT", "/b?lifecycle", "PutLifecycle"),
        ("GET", "/", "ListBuckets"),
    ],
)
def test_kinds(method: str, target: str, expected: str) -> None:
    assert s3_kind(Head.parse(f"{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())) == expected


def test_kinds_of_copies_and_of_the_api() -> None:
    copy = Head.parse(b"PUT /b/k?partNumber=1&uploadId=u HTTP/1.1\r\nX-Amz-Copy-Source: /b/o\r\n\r\n")
    assert s3_kind(copy) == "UploadPartCopy"
    assert api_kind(Head.parse(b"POST /object/batch HTTP/1.1\r\n\r\n")) == "batch"
    assert api_kind(Head.parse(b"GET /files/a/b HTTP/1.1\r\n\r\n")) == "GET files"


async def test_large_body_streams_and_keeps_the_connection(
    proxy: StoreProxy, upstream: Upstream, http: aiohttp.ClientSession
) -> None:
    body = bytes(range(256)) * 20_000
    for _ in range(2):
        async with http.put(at(proxy, f"/b/k?{SIGNED}"), data=io.BytesIO(body)) as answer:
            assert answer.status == 200
    assert {seen[3] for seen in upstream.seen} == {hashlib.sha256(body).hexdigest()}
    assert proxy.put_body_bytes == 2 * len(body)


async def test_expect_continue(proxy: StoreProxy, upstream: Upstream, http: aiohttp.ClientSession) -> None:
    body = b"x" * 300_000
    async with http.put(at(proxy, f"/b/k?{SIGNED}"), data=body, expect100=True) as answer:
        assert answer.status == 200
    assert upstream.seen[0][3] == hashlib.sha256(body).hexdigest()


async def test_an_early_answer_reaches_the_client(proxy: StoreProxy, http: aiohttp.ClientSession) -> None:
    async with http.put(at(proxy, f"/b/early?{SIGNED}"), data=io.BytesIO(bytes(3_000_000))) as answer:
        assert (answer.status, await answer.text()) == (403, "no")
    # That connection ends with the answer, as a server's would; whoever uses it again may see it break.
    async with aiohttp.ClientSession() as fresh, fresh.get(at(proxy, "/b/k")) as answer:
        assert answer.status == 200


async def test_chunked_both_ways(proxy: StoreProxy, upstream: Upstream, http: aiohttp.ClientSession) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"cd"

    async with http.post(at(proxy, "/b/chunked"), data=pieces()) as answer:
        assert await answer.read() == b"onetwo"
    assert upstream.seen[0][3] == hashlib.sha256(b"abcd").hexdigest()
    assert proxy.control_body_bytes == 4
    async with http.head(at(proxy, "/b/k")) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("size", [5, 1_000_000])
async def test_flip_bit(proxy: StoreProxy, upstream: Upstream, http: aiohttp.ClientSession, size: int) -> None:
    proxy.rule(kind("PutObject"), FlipBit(at=size - 2), times=1)
    body = bytes(size)
    for _ in range(2):
        async with http.put(at(proxy, f"/b/k?{SIGNED}"), data=io.BytesIO(body)) as answer:
            assert answer.status == 200
    spoiled = bytes(size - 2) + b"\x01\x00"
    assert [s[3] for s in upstream.seen] == [hashlib.sha256(b).hexdigest() for b in (spoiled, body)]
    assert [call.fault for call in proxy.requests] == ["FlipBit", None]


async def test_flip_answer_bit(proxy: StoreProxy, http: aiohttp.ClientSession) -> None:
    proxy.rule(kind("GetObject"), FlipAnswerBit(at=10**9))
    async with http.get(at(proxy, "/b/k?size=100000")) as answer:
        assert await answer.read() == bytes(99_999) + b"\x01"


@pytest.mark.parametrize(("size", "after"), [(100, 40), (4_000_000, 1_500_000)])
async def test_cut(proxy: StoreProxy, upstream: Upstream, http: aiohttp.ClientSession, size: int, after: int) -> None:
    proxy.rule(kind("PutObject"), Cut(after_bytes=after))
    with pytest.raises(aiohttp.ClientError):
        await http.put(at(proxy, f"/b/k?{SIGNED}"), data=io.BytesIO(bytes(size)))
    async with asyncio.timeout(10):
        while not upstream.arrived:
            await asyncio.sleep(0.01)
    assert upstream.arrived == [after]
    assert upstream.seen == []
    assert proxy.requests[0].status is None


async def test_cut_answer(proxy: StoreProxy, http: aiohttp.ClientSession) -> None:
    proxy.rule(kind("GetObject"), CutAnswer(after_bytes=70_000), times=1)
    async with http.get(at(proxy, "/b/k?size=100000")) as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    async with http.get(at(proxy, "/b/k?size=100000")) as answer:
        assert len(await answer.read()) == 100_000


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_lose_answer(proxy: StoreProxy, upstream: Upstream, http: aiohttp.ClientSession, size: int) -> None:
    proxy.rule(kind("PutObject"), LoseAnswer())
    with pytest.raises(aiohttp.ClientError):
        await http.put(at(proxy, f"/b/k?{SIGNED}"), data=io.BytesIO(bytes(size)))
    assert len(upstream.seen) == 1
    assert (proxy.requests[0].status, proxy.requests[0].fault) == (200, "LoseAnswer")


async def test_cut_before(proxy: StoreProxy, upstream: Upstream, http: aiohttp.ClientSession) -> None:
    rule = proxy.rule(kind("PutObject"), CutBefore(), times=1)
    with pytest.raises(aiohttp.ClientError):
        await http.put(at(proxy, f"/b/k?{SIGNED}"), data=b"x")
    assert (upstream.seen, rule.hits) == ([], 1)


@pytest.mark.parametrize("expect", [False, True])
async def test_answer(proxy: StoreProxy, upstream: Upstream, http: aiohttp.ClientSession, expect: bool) -> None:
    proxy.rule(kind("PutObject"), Answer(status=503, retry_after=7), times=1)
    async with http.put(at(proxy, f"/b/k?{SIGNED}"), data=bytes(200_000), expect100=expect) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
    assert upstream.seen == []
    async with http.put(at(proxy, f"/b/k?{SIGNED}"), data=b"x") as answer:
        assert answer.status == 200


async def test_delay(proxy: StoreProxy, http: aiohttp.ClientSession) -> None:
    proxy.rule(kind("HeadObject"), Delay(seconds=0.3))
    begun = time.monotonic()
    async with http.head(at(proxy, "/b/k")):
        pass
    assert time.monotonic() - begun >= 0.3


async def test_nth_and_every(proxy: StoreProxy, http: aiohttp.ClientSession) -> None:
    proxy.rule(nth(2, kind("GetObject")), Answer(status=500))
    proxy.rule(every(3, kind("GetObject")), Answer(status=503))
    statuses = []
    for _ in range(6):
        async with http.get(at(proxy, "/b/k")) as answer:
            statuses.append(answer.status)
    # The second call never reaches the second rule, so that one's third call is the fourth.
    assert statuses == [200, 500, 200, 503, 200, 200]


async def test_down_and_up(proxy: StoreProxy, upstream: Upstream, http: aiohttp.ClientSession) -> None:
    async with http.get(at(proxy, "/b/k")):
        pass
    await asyncio.to_thread(proxy.set_down, True)
    with pytest.raises(aiohttp.ClientError):
        await http.get(at(proxy, "/b/k"))
    assert len(upstream.seen) == 1
    await asyncio.to_thread(proxy.heal)
    async with http.get(at(proxy, "/b/k")) as answer:
        assert answer.status == 200


async def test_hooks_hold_the_call(proxy: StoreProxy, upstream: Upstream, http: aiohttp.ClientSession) -> None:
    order: list[str] = []
    proxy.on(kind("PutObject"), lambda _: order.append(f"before {len(upstream.seen)}"), times=1)
    proxy.on(kind("PutObject"), lambda call: order.append(f"after {call.status}"), when="after", times=1)
    for _ in range(2):
        async with http.put(at(proxy, f"/b/k?{SIGNED}"), data=b"x"):
            order.append("answered")
    assert order == ["before 0", "after 200", "answered", "answered"]


async def test_a_failing_hook_fails_the_test(upstream: Upstream, http: aiohttp.ClientSession) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("from the hook")

    proxy = StoreProxy(upstream.url)
    proxy.start()
    proxy.on(kind("PutObject"), fail)
    with pytest.raises(aiohttp.ClientError):
        await http.put(at(proxy, f"/b/k?{SIGNED}"), data=b"x")
    with pytest.raises(ExceptionGroup, match="hooks"):
        proxy.stop()


async def test_wait_until(proxy: StoreProxy, http: aiohttp.ClientSession) -> None:
    reached = threading.Event()

    def wait() -> None:
        proxy.wait_until(lambda p: p.put_body_bytes >= 3)
        reached.set()

    waiting = asyncio.create_task(asyncio.to_thread(wait))
    async with http.put(at(proxy, f"/b/k?{SIGNED}"), data=b"123"):
        pass
    await waiting
    assert reached.is_set()
    with pytest.raises(TimeoutError, match="PutObject"):
        await asyncio.to_thread(proxy.wait_until, lambda _: False, 0.05)


async def test_an_upstream_that_is_gone(http: aiohttp.ClientSession) -> None:
    with StoreProxy("http://127.0.0.1:1") as proxy:
        with pytest.raises(aiohttp.ClientError):
            await http.put(at(proxy, f"/b/k?{SIGNED}"), data=io.BytesIO(bytes(1_000_000)))
        assert proxy.counts == {"PutObject": 1}


def presigned_put(store: SeaweedFS, proxy: StoreProxy, key: str, body: bytes) -> tuple[str, dict[str, str]]:
    """Signed by botocore for the proxy's address, bound to the body's SHA-256."""
    client = botocore.session.Session().create_client(
        "s3",
        region_name=store.region,
        endpoint_url=proxy.url,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        config=Config(s3={"addressing_style": "path"}, signature_version="s3v4"),
    )
    checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
    values = {"Bucket": store.bucket, "Key": key, "ChecksumSHA256": checksum}
    return client.generate_presigned_url("put_object", Params=values), {"x-amz-checksum-sha256": checksum}


@pytest.mark.parametrize("size", [1000, 300_000])
async def test_a_signature_for_the_proxy_holds_at_the_store(
    seaweedfs: SeaweedFS, store_proxy: StoreProxy, prefix: str, http: aiohttp.ClientSession, size: int
) -> None:
    body = bytes(range(250)) * (size // 250)
    url, headers = presigned_put(seaweedfs, store_proxy, f"{prefix}a b+c%é", body)
    store_proxy.rule(nth(1, kind("PutObject")), FlipBit(at=100))
    statuses = []
    for _ in range(2):
        async with http.put(
            URL(url, encoded=True), data=body, headers=headers, skip_auto_headers=["Content-Type"]
        ) as a:
            statuses.append(a.status)
    assert statuses == [400, 200]
    assert store_proxy.put_body_bytes == 2 * size
    assert store_proxy.requests[0].key == f"{prefix}a b+c%é".encode()
