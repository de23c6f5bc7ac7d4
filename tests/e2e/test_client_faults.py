"""Whatever goes wrong between client, API and store: one whole file, or an error and nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from pathlib import Path

import pytest

import putgate
from putgate import BytesSource, Failed, FileSource, Job, Name
from putgate.errors import ClientError, StoreRefused
from putgate.retry import LEAST_TRIES
from putgate.upload import one_part, parts
from putgate.upload.progress import Known
from putgate.upload.signatures import Signatures
from putgate.wire import Wire
from putgate_protocol.digests import PartHash
from putgate_protocol.messages.base import SignedPart
from putgate_protocol.messages.initiate import Exists, InitiateRequest, Upload
from tests.client.stack import MIB, Stack, a_stack, refusal, the_servers  # noqa: F401
from tests.servers.proxy_calls import Call, every, kind, nth
from tests.servers.proxy_faults import Answer, Cut, CutAnswer, CutBefore, FlipAnswerBit, FlipBit, LoseAnswer

PART = 8 * MIB
INITIATE = kind("initiate_multipart_upload")


def part_put(call: Call) -> bool:
    return call.kind == "UploadPart" and call.presigned


def file_put(call: Call) -> bool:
    return call.kind == "PutObject" and call.presigned


async def download(stack: Stack, client: putgate.Client, name: str) -> bytes:
    target = stack.folder / "out"
    await client.download(name, target)
    return target.read_bytes()


# One part of several


@pytest.mark.slow
async def test_a_flipped_bit_in_every_tenth_part_is_refused_and_sent_again(stack: Stack) -> None:
    path = stack.file(31 * PART + 5)
    rule = stack.store.rule(every(10, part_put), FlipBit(at=4_000_000))
    async with stack.client() as client:
        done = await client.upload(path, stack.prefix + "x")
        spoilt = [call for call in stack.store.requests if call.fault == "FlipBit"]
        assert rule.hits >= 3
        assert all(call.status == 400 for call in spoilt)
        assert len([call for call in stack.store.requests if part_put(call)]) == 32 + rule.hits
        assert done.sent_bytes == path.stat().st_size
        assert await download(stack, client, stack.prefix + "x") == path.read_bytes()


async def test_a_403_costs_one_signature_of_that_part_alone(stack: Stack) -> None:
    path = stack.file(4 * PART)
    stack.store.rule(nth(2, part_put), Answer(status=403))
    async with stack.client() as client:
        assert (await client.upload(path, stack.prefix + "x")).how == "complete"
    assert stack.calls.counts["auth_sign"] == 1
    assert stack.calls.counts["initiate_multipart_upload"] == 1
    assert len([call for call in stack.store.requests if part_put(call)]) == 5


async def test_a_part_that_is_refused_for_ever_is_an_error(stack: Stack) -> None:
    path = stack.file(2 * PART)
    stack.store.rule(lambda call: part_put(call) and call.part_number == 2, Answer(status=403))
    async with stack.client() as client:
        with pytest.raises(putgate.StoreRefused, match="part 2: the store answered HTTP 403") as caught:
            await client.upload(path, stack.prefix + "x")
    assert "Signature" not in str(caught.value)
    assert stack.calls.counts["auth_sign"] == one_part.REFUSALS


@pytest.mark.parametrize("status", [400, 403])
async def test_a_refusal_at_the_end_of_patience_is_the_stores(stack: Stack, status: int) -> None:
    path = stack.file(2 * PART)
    stack.store.rule(part_put, Answer(status=status))
    async with stack.client(give_up_after=timedelta(0)) as client:
        with pytest.raises(putgate.StoreRefused, match=f"the store answered HTTP {status}") as caught:
            await client.upload(path, stack.prefix + "x")
    assert caught.value.status == status


@pytest.mark.parametrize("fault", [Answer(status=503), Cut(after_bytes=3_000_000), CutBefore(), LoseAnswer()])
async def test_what_passes_is_tried_again_under_the_same_signature(stack: Stack, fault: Answer) -> None:
    path = stack.file(3 * PART)
    stack.store.rule(part_put, fault, times=2)
    async with stack.client() as client:
        await client.upload(path, stack.prefix + "x")
        assert await download(stack, client, stack.prefix + "x") == path.read_bytes()
    assert stack.calls.counts["auth_sign"] == 0
    assert stack.calls.counts["initiate_multipart_upload"] == 1


async def test_a_connection_lost_again_and_again_gets_a_fresh_signature(stack: Stack) -> None:
    path = stack.file(2 * PART)
    stack.store.rule(lambda call: part_put(call) and call.part_number == 1, CutBefore(), times=2 * one_part.LOST)
    async with stack.client() as client:
        await client.upload(path, stack.prefix + "x")
    assert stack.calls.counts["auth_sign"] >= 1


async def test_a_put_whose_signature_ended_while_it_waited_for_its_turn_is_declared_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Signatures] = []
    both = threading.Event()
    original = Signatures.add

    def add(self: Signatures, signed: Iterable[SignedPart]) -> None:
        original(self, signed)
        held.append(self)
        if len(held) == 2:
            both.set()

    def end_all(_: Call) -> None:
        assert both.wait(60)
        for signatures in held:
            signatures.drop(1)

    monkeypatch.setattr(Signatures, "add", add)
    stack.store.on(file_put, end_all, times=1)
    async with stack.client(concurrency=1) as client:
        done = await asyncio.gather(*(client.upload(name.encode(), stack.prefix + name) for name in ("one", "two")))
    assert [each.how for each in done] == ["put", "put"]
    assert stack.calls.counts["initiate_multipart_upload"] == 3
    assert [call.status for call in stack.store.requests if file_put(call)] == [200, 200]


async def test_a_downloaded_file_has_the_rights_of_any_new_file(stack: Stack) -> None:
    before = os.umask(0o027)
    try:
        async with stack.client() as client:
            await client.upload(b"content", stack.prefix + "x")
            target = stack.folder / "new"
            await client.download(stack.prefix + "x", target)
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def change_signed(monkeypatch: pytest.MonkeyPatch, change: Callable[[list[SignedPart]], list[SignedPart]]) -> None:
    """Let the client see other signed parts than the API's initiate answered."""
    original = Wire.initiate

    async def initiate(self: Wire, request: InitiateRequest) -> Exists | Upload:
        answer = await original(self, request)
        assert isinstance(answer, Upload)
        return answer.model_copy(update={"parts": change(answer.parts)})

    monkeypatch.setattr(Wire, "initiate", initiate)


async def test_pages_of_signatures_are_fetched_when_their_turn_comes(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stack.file(6 * PART)
    monkeypatch.setattr(parts, "PAGE", 2)
    change_signed(monkeypatch, lambda signed: signed[:2])
    async with stack.client(concurrency=1) as client:
        await client.upload(path, stack.prefix + "x")
        assert await download(stack, client, stack.prefix + "x") == path.read_bytes()
    assert stack.calls.counts["auth_sign"] == 2


async def test_an_expired_signature_is_never_sent(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stack.file(2 * PART)
    change_signed(monkeypatch, lambda signed: [part.model_copy(update={"expires_in": 0}) for part in signed])
    async with stack.client() as client:
        await client.upload(path, stack.prefix + "x")
    assert stack.calls.counts["auth_sign"] == 2
    assert len([call for call in stack.store.requests if part_put(call)]) == 2


async def test_signatures_that_are_never_of_use_are_said_so(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stack.file(2 * PART)
    monkeypatch.setattr(Signatures, "live", lambda *_: None)
    async with stack.client(give_up_after=timedelta(0)) as client:
        with pytest.raises(ClientError, match=r"x: part [12]: its new signature is of no use"):
            await client.upload(path, stack.prefix + "x")
    assert not any(part_put(call) for call in stack.store.requests)


async def test_an_upload_that_vanished_is_begun_again(stack: Stack) -> None:
    path = stack.file(3 * PART)
    stack.store.rule(nth(3, part_put), Answer(status=404))
    async with stack.client() as client:
        await client.upload(path, stack.prefix + "x")
        assert await download(stack, client, stack.prefix + "x") == path.read_bytes()
    assert stack.calls.counts["initiate_multipart_upload"] == 2
    assert stack.open_uploads() == []


async def test_an_upload_aborted_by_another_hand_is_healed(stack: Stack) -> None:
    path = stack.file(3 * PART)
    aborted = threading.Event()

    def abort(call: Call) -> None:
        client = stack.api.store.client()
        try:
            client.abort_multipart_upload(
                Bucket=stack.api.store.bucket, Key=_key(call), UploadId=call.head.query["uploadId"]
            )
        finally:
            client.close()
        aborted.set()

    stack.store.on(nth(3, part_put), abort)
    async with stack.client() as client:
        await client.upload(path, stack.prefix + "x")
        assert aborted.is_set()
        assert await download(stack, client, stack.prefix + "x") == path.read_bytes()
    assert stack.open_uploads() == []


async def test_parts_that_the_api_misses_are_sent_again(stack: Stack) -> None:
    path = stack.file(3 * PART)
    stack.calls.rule(nth(1, kind("complete_multipart_upload")), refusal("parts_missing", parts=[2, 99]))
    async with stack.client() as client:
        done = await client.upload(path, stack.prefix + "x")
        assert done.sent_bytes == 4 * PART
    assert [call.part_number for call in stack.store.requests if part_put(call)][-1] == 2


@pytest.mark.parametrize("code", ["upload_gone", "upload_expired"])
async def test_an_upload_that_ended_is_begun_again(stack: Stack, code: str) -> None:
    path = stack.file(2 * PART)
    stack.calls.rule(nth(1, kind("complete_multipart_upload")), refusal(code))
    async with stack.client() as client:
        assert (await client.upload(path, stack.prefix + "x")).sent_bytes == 2 * PART
    assert stack.calls.counts["initiate_multipart_upload"] == 2


@pytest.mark.slow
async def test_an_upload_that_ends_for_ever_is_an_error(stack: Stack) -> None:
    stack.calls.rule(kind("complete_multipart_upload"), refusal("upload_gone"))
    path = stack.file(PART + 1)
    async with stack.client() as client:
        with pytest.raises(putgate.StoreRefused, match="upload_gone"):
            await client.upload(path, stack.prefix + "x")
    assert stack.calls.counts["initiate_multipart_upload"] < 20


# A commit by PUT


@pytest.mark.parametrize(
    ("fault", "stored"),
    [(Answer(status=503), False), (Answer(status=403), False), (CutBefore(), False), (LoseAnswer(), True)],
)
async def test_a_put_without_its_answer_is_declared_again(stack: Stack, fault: Answer, stored: bool) -> None:
    stack.store.rule(file_put, fault, times=1)
    async with stack.client() as client:
        done = await client.upload(b"content", stack.prefix + "x")
        assert done.how == ("exists" if stored else "put")
        assert await download(stack, client, stack.prefix + "x") == b"content"
    if isinstance(fault, Answer):
        # A connection that breaks before any answer may be replaced by the HTTP library under the same request.
        assert stack.calls.counts["initiate_multipart_upload"] == 2
    assert stack.calls.counts["auth_sign"] == 0


async def test_a_put_that_never_succeeds_goes_the_other_way(stack: Stack) -> None:
    stack.store.rule(file_put, Answer(status=500))
    async with stack.client() as client:
        done = await client.upload(b"content", stack.prefix + "x")
        assert done.how == "complete"
        assert await download(stack, client, stack.prefix + "x") == b"content"


async def test_in_a_batch_each_put_recovers_by_itself(stack: Stack) -> None:
    stack.store.rule(every(7, file_put), LoseAnswer(), times=5)
    stack.store.rule(every(11, file_put), FlipBit(), times=5)
    stack.store.rule(every(13, file_put), Answer(status=503), times=5)
    names = [f"{stack.prefix}{number}" for number in range(200)]
    async with stack.client() as client:
        outcomes = [outcome async for outcome in client.engine().upload_many(_jobs(names))]
        assert [o for o in outcomes if isinstance(o, Failed)] == []
        assert len(outcomes) == 200
        for name in names[::20]:
            assert await download(stack, client, name) == name.encode()


# The API


@pytest.mark.parametrize(
    "fault", [CutBefore(), LoseAnswer(), Answer(status=503), refusal("upload_busy", retry_after=0)]
)
@pytest.mark.parametrize("call", ["part_limit", "initiate_multipart_upload", "complete_multipart_upload"])
async def test_each_call_survives_a_lost_request_or_answer(stack: Stack, call: str, fault: Answer) -> None:
    path = stack.file(PART + 1)
    rule = stack.calls.rule(kind(call), fault, times=1)
    async with stack.client() as client:
        await client.upload(path, stack.prefix + "x")
        assert await download(stack, client, stack.prefix + "x") == path.read_bytes()
    assert rule.hits == 1
    assert stack.open_uploads() == []


async def test_a_lost_batch_is_sent_again(stack: Stack) -> None:
    stack.calls.rule(kind("batch"), LoseAnswer(), times=2)
    names = [f"{stack.prefix}{number}" for number in range(20)]
    async with stack.client() as client:
        outcomes = [outcome async for outcome in client.engine().upload_many(_jobs(names))]
    assert [outcome for outcome in outcomes if isinstance(outcome, Failed)] == []


async def test_an_old_part_rule_is_learnt_anew(stack: Stack) -> None:
    path = stack.file(PART + 1)
    stack.calls.rule(nth(1, INITIATE), refusal("part_size_mismatch"))
    async with stack.client() as client:
        await client.upload(path, stack.prefix + "x")
    assert stack.calls.counts["part_limit"] == 2


async def test_a_limit_that_was_raised_is_learnt_before_a_file_is_refused(stack: Stack) -> None:
    path = stack.file(PART + 1)
    async with stack.client() as client:
        known = await client._use().wire.part_limit()
        client._use().wire._limit = known.model_copy(update={"max_object_size": PART})
        assert (await client.upload(path, stack.prefix + "x")).how == "complete"
    assert stack.calls.counts["part_limit"] == 2


async def test_a_file_over_the_limit_is_refused_before_it_is_hashed(stack: Stack) -> None:
    path = stack.file(PART + 1)
    async with stack.client() as client:
        low = (await client._use().wire.part_limit()).model_copy(update={"max_object_size": PART})
        body = low.model_dump_json().encode()
        stack.calls.rule(kind("part_limit"), Answer(status=200, body=body, content_type="application/json"))
        client._use().wire._limit = low
        with pytest.raises(putgate.Problem, match=f"the bucket takes at most {PART}") as caught:
            await client.upload(path, stack.prefix + "x")
    assert caught.value.code == "too_large"
    assert stack.calls.counts["initiate_multipart_upload"] == 0


async def test_an_old_part_rule_in_a_batch_is_learnt_anew(stack: Stack) -> None:
    mismatch = {"status": 409, "body": {"code": "part_size_mismatch", "detail": "on demand"}}
    body = json.dumps({"results": [mismatch] * 3}).encode()
    stack.calls.rule(nth(1, kind("batch")), Answer(status=200, body=body, content_type="application/json"))
    stack.calls.rule(INITIATE, refusal("part_size_mismatch"), times=3)
    names = [f"{stack.prefix}{number}" for number in range(3)]
    async with stack.client() as client:
        outcomes = [outcome async for outcome in client.engine().upload_many(_jobs(names))]
        assert [outcome for outcome in outcomes if isinstance(outcome, Failed)] == []
        assert len([file async for file in client.list(stack.prefix)]) == 3
    assert stack.calls.counts["part_limit"] >= 2


async def test_an_answer_that_is_none_is_an_error(stack: Stack) -> None:
    stack.calls.rule(INITIATE, Answer(status=200, body=b'{"status":"unheard of"}', content_type="application/json"))
    async with stack.client() as client:
        with pytest.raises(putgate.AnswerUnreadable, match="InitiateAnswer"):
            await client.upload(b"content", stack.prefix + "x")


async def test_a_token_is_read_again_when_it_is_refused(stack: Stack) -> None:
    tokens = iter(["an old one", stack.api.token])
    async with putgate.Client(stack.calls.url, token=lambda: next(tokens)) as client:
        await client.upload(b"content", stack.prefix + "x")
    async with putgate.Client(stack.calls.url, token=lambda: "always wrong") as client:
        with pytest.raises(putgate.Unauthenticated):
            await client.upload(b"content", stack.prefix + "x")


async def test_the_token_never_reaches_the_store_and_nothing_is_added(stack: Stack) -> None:
    path = stack.file(PART + 1)
    async with stack.client() as client:
        await client.upload(path, stack.prefix + "x")
        await client.upload(b"small", stack.prefix + "y")
        await download(stack, client, stack.prefix + "x")
    for call in stack.store.requests:
        if call.presigned:
            assert stack.api.token.encode() not in call.head.raw
            assert b"authorization" not in call.head.raw.lower()
            assert b"transfer-encoding" not in call.head.raw.lower()
    puts = [call for call in stack.store.requests if part_put(call)]
    assert len(puts) == 2
    signed = set(puts[0].head.query["X-Amz-SignedHeaders"].split(";"))
    assert set(puts[0].head.headers) <= signed | {"connection"}


async def test_an_api_that_is_down_ends_in_one_clear_error(stack: Stack) -> None:
    stack.calls.set_down(True)
    async with stack.client(give_up_after=timedelta(0)) as client:
        with pytest.raises(putgate.Unreachable) as caught:
            await client.upload(b"content", stack.prefix + "x")
        outcomes = [outcome async for outcome in client.engine().upload_many(_jobs([stack.prefix + "x"]))]
    assert stack.calls.url in str(caught.value)
    assert [type(o.error) for o in outcomes if isinstance(o, Failed)] == [putgate.Unreachable]


async def test_patience_is_not_multiplied(stack: Stack) -> None:
    stack.calls.rule(INITIATE, Answer(status=503))
    async with stack.client(give_up_after=timedelta(0)) as client:
        with pytest.raises(putgate.Problem, match="store_unavailable"):
            await client.upload(b"content", stack.prefix + "x")
    assert stack.calls.counts["initiate_multipart_upload"] == LEAST_TRIES


async def test_an_api_that_is_killed_and_started_again_is_waited_for(stack: Stack) -> None:
    path = stack.file(4 * PART)
    small = [f"{stack.prefix}{number}" for number in range(50)]
    stack.store.on(nth(2, part_put), lambda call: stack.api.restart(), times=1)
    options = putgate.Options(give_up_after=timedelta(minutes=1))
    async with putgate.Client(stack.api.url, token=stack.api.token, options=options) as client:
        large = asyncio.create_task(client.upload(path, stack.prefix + "x"))
        outcomes = [outcome async for outcome in client.engine().upload_many(_jobs(small))]
        await large
        assert await download(stack, client, stack.prefix + "x") == path.read_bytes()
    assert [outcome for outcome in outcomes if isinstance(outcome, Failed)] == []


async def test_a_store_that_is_down_is_waited_for(stack: Stack) -> None:
    path = stack.file(4 * PART)
    down = asyncio.Event()
    loop = asyncio.get_running_loop()
    stack.store.on(nth(2, part_put), lambda call: loop.call_soon_threadsafe(down.set))
    async with stack.client() as client:
        uploading = asyncio.create_task(client.upload(path, stack.prefix + "x"))
        await asyncio.wait_for(down.wait(), 30)
        await asyncio.to_thread(stack.store.set_down, True)
        done, _ = await asyncio.wait([uploading], timeout=2)
        assert not done
        await asyncio.to_thread(stack.store.set_down, False)
        await asyncio.wait_for(uploading, 60)
        assert await download(stack, client, stack.prefix + "x") == path.read_bytes()


# The source


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(PART + 5)
        file.write(os.urandom(100))


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(os.urandom(path.stat().st_size))
    other.replace(path)


def _cut_short(path: Path) -> None:
    os.truncate(path, PART + 100)


@pytest.mark.parametrize("change", [_overwrite, _replace, _cut_short, Path.unlink])
async def test_a_file_that_changes_while_it_uploads_is_not_stored(
    stack: Stack, change: Callable[[Path], object]
) -> None:
    path = stack.file(4 * PART)
    stack.store.on(nth(1, part_put), lambda call: change(path), times=1)
    async with stack.client(concurrency=1) as client:
        with pytest.raises(putgate.SourceChanged):
            await client.upload(path, stack.prefix + "x")
        with pytest.raises(putgate.NotFound):
            await client.stat(stack.prefix + "x")
    assert stack.open_uploads() == []


async def test_a_file_that_changes_after_its_last_part_is_not_stored(stack: Stack) -> None:
    path = stack.file(2 * PART)
    stack.store.on(nth(2, part_put), lambda call: _overwrite(path), when="after", times=1)
    async with stack.client(concurrency=1) as client:
        with pytest.raises(putgate.SourceChanged):
            await client.upload(path, stack.prefix + "x")
    assert stack.open_uploads() == []


async def test_what_was_read_of_a_small_file_is_what_is_stored(stack: Stack) -> None:
    path = stack.file(100_000)
    before = path.read_bytes()
    stack.store.on(file_put, lambda call: path.write_bytes(b"new content"), times=1)
    async with stack.client() as client:
        done = await client.upload(path, stack.prefix + "x")
        assert await download(stack, client, stack.prefix + "x") == before
    assert done.change_key != putgate.FileSource(path).open().change_key


# Downloads


@pytest.mark.parametrize(
    "fault", [CutAnswer(after_bytes=5_000_000), CutBefore(), Answer(status=503), Answer(status=403)]
)
async def test_a_download_goes_on_where_it_was_cut(stack: Stack, fault: Answer) -> None:
    path = stack.file(2 * PART)
    async with stack.client() as client:
        await client.upload(path, stack.prefix + "x")
        stack.store.rule(lambda call: call.kind == "GetObject" and call.presigned, fault, times=1)
        assert await download(stack, client, stack.prefix + "x") == path.read_bytes()
    ranges = [call.head.headers.get("range") for call in stack.store.of_kind("GetObject") if call.presigned]
    assert len(ranges) == 2
    if isinstance(fault, CutAnswer):
        assert ranges[1] is not None


async def test_a_spoilt_download_is_no_file(stack: Stack) -> None:
    path = stack.file(PART + 1)
    target = stack.folder / "target"
    target.write_bytes(b"what was there before")
    async with stack.client() as client:
        await client.upload(path, stack.prefix + "x")
        stack.store.rule(lambda call: call.kind == "GetObject" and call.presigned, FlipAnswerBit(at=77))
        with pytest.raises(putgate.NotVerified):
            await client.download(stack.prefix + "x", target)
    assert target.read_bytes() == b"what was there before"
    assert {entry.name for entry in stack.folder.iterdir()} == {"source", "target"}


async def test_a_file_replaced_while_it_is_downloaded_comes_whole(stack: Stack) -> None:
    first, second = stack.file(2 * PART, "first"), stack.file(1000, "second")
    name = stack.prefix + "x"
    gets = lambda call: call.kind == "GetObject" and call.presigned  # noqa: E731
    async with stack.client() as client:
        await client.upload(first, name)
        stack.store.rule(nth(1, gets), CutAnswer(after_bytes=PART))
        stack.store.on(nth(2, gets), lambda call: stack.run("upload", second, "--to", name), times=1)
        assert await download(stack, client, name) == second.read_bytes()


async def test_a_file_of_one_size_replaced_before_its_bytes_come_is_not_mistaken(stack: Stack) -> None:
    first, second = stack.file(1000, "first"), stack.file(1000, "second")
    name = stack.prefix + "x"
    gets = lambda call: call.kind == "GetObject" and call.presigned  # noqa: E731
    async with stack.client() as client:
        await client.upload(first, name)
        stack.store.on(nth(1, gets), lambda call: stack.run("upload", second, "--to", name), times=1)
        assert await download(stack, client, name) == second.read_bytes()


class Remembering:
    """Progress in memory."""

    def __init__(self) -> None:
        self.known: dict[Name, Known] = {}

    async def load(self, name: Name) -> Known | None:
        return self.known.get(name)

    async def save(self, name: Name, known: Known) -> None:
        self.known[name] = known

    async def forget(self, name: Name) -> None:
        self.known.pop(name, None)


async def test_remembered_hashes_of_other_bytes_are_forgotten(stack: Stack) -> None:
    """The change key is equal and the content is not: a writer by mmap, or times that a network file system cached."""
    path = stack.file(2 * PART, "file")
    os.utime(path, (1, 1))
    name = Name.from_text(stack.prefix + "x")
    progress = Remembering()
    source = FileSource(path)
    with contextlib.closing(source.open()) as reading:
        key = reading.change_key
    wrong = (PartHash.of(b"other"), PartHash.of(b"bytes"))
    progress.known[name] = Known(change_key=key, part_size=PART, part_hashes=wrong, upload_id=None)
    async with stack.client() as client:
        engine = client.engine(progress)
        with pytest.raises(StoreRefused):
            await engine.upload(Job(name=name, source=source))
        assert name not in progress.known
        await engine.upload(Job(name=name, source=source))
        assert await download(stack, client, str(name)) == path.read_bytes()


def _key(call: Call) -> str:
    return call.key.decode()


async def _jobs(names: list[str]) -> AsyncIterator[Job]:
    for name in names:
        yield Job(name=Name.parse(name.encode()), source=BytesSource(name.encode()))
