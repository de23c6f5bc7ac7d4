"""The probe: what it says about SeaweedFS, about a strict store, and about stores that lack exactly one thing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

import aiohttp
import pytest

from putgate_protocol.settings.api import S3
from putgate_storage.errors import ConditionFailed, Permanent, Refused, Transient, Unsupported
from putgate_storage.memory import MemoryStore
from putgate_storage.memory_requests import Received, RequestGate
from putgate_storage.probe.report import WHEN_FAILED, Check, ProbeReport, Row
from putgate_storage.probe.run import FOLDER, probe
from putgate_storage.probe.sender import HttpSender
from putgate_storage.s3.driver import S3Store, open_store
from putgate_storage.store import (
    Condition,
    CopiedPart,
    FinishedPart,
    ObjectHeaders,
    Page,
    SignedRequest,
    Store,
    StoredPart,
    StoreLimits,
    StoreUpload,
)
from putgate_storage.wrap.limit import limited
from putgate_storage.wrap.retry import retrying
from putgate_storage.wrap.wrapped import Operation, _Core, wrap
from tests.servers.ports import free_port

T = TypeVar("T")


def not_passed(report: ProbeReport) -> dict[Check, str]:
    return {row.check: row.verdict for row in report.rows if row.verdict != "passed"}


# --- SeaweedFS ---


async def test_seaweedfs(s3_store: S3Store, http: aiohttp.ClientSession, prefix: str) -> None:
    report = await probe(retrying(limited(s3_store, 32)), prefix, HttpSender(http))
    assert report.tier == "sha256", report.findings
    assert report.commit_by_put, report.findings
    assert report.conditional_put_absent
    assert report.conditional_put_match
    assert report.complete_sha256
    assert report.part_copy
    assert report.conditional_delete
    assert report.conclusive
    assert not report.conditional_complete
    assert not_passed(report) == {Check.COMPLETE_CONDITION: "failed", Check.COMPLETE_AGAINST_PUT: "failed"}
    assert (await s3_store.list(prefix)).entries == []
    assert await s3_store.list_uploads(prefix) == []


# --- MinIO and Ceph ---


async def test_minio(minio_store: S3Store, http: aiohttp.ClientSession, prefix: str) -> None:
    report = await probe(retrying(limited(minio_store, 32)), prefix, HttpSender(http))
    assert not_passed(report) == dict.fromkeys(
        [
            Check.PART_ACL,
            Check.PART_GRANT,
            Check.PART_TAGGING,
            # With it the holder of one signed PutObject reads any object that the API can read.
            Check.PUT_COPY_SOURCE,
            Check.PUT_ACL,
            Check.PUT_GRANT,
            Check.PUT_TAGGING,
            Check.PART_COPY_RANGE,
            Check.PART_COPY_WHOLE,
            Check.DELETE_IF_MATCH,
        ],
        "failed",
    )
    assert report.tier == "sha256"
    assert report.conclusive
    assert not report.commit_by_put
    assert report.conditional_put_absent
    assert report.conditional_put_match
    assert report.conditional_complete
    assert report.complete_sha256
    assert not report.part_copy
    assert not report.conditional_delete
    assert (await minio_store.list(prefix)).entries == []


@pytest.mark.slow
async def test_ceph(ceph_store: S3Store, http: aiohttp.ClientSession, prefix: str) -> None:
    report = await probe(retrying(limited(ceph_store, 32)), prefix, HttpSender(http))
    assert not_passed(report) == dict.fromkeys(
        [
            Check.PART_SHA256,
            Check.PART_ACL,
            Check.PART_GRANT,
            Check.PART_TAGGING,
            Check.PART_META,
            Check.PUT_SHA256,
            Check.PUT_COPY_SOURCE,
            Check.PUT_ACL,
            Check.PUT_GRANT,
            Check.PUT_TAGGING,
            Check.PUT_META,
            Check.COMPLETE_CONDITION,
            Check.COMPLETE_AGAINST_PUT,
            Check.DELETE_IF_MATCH,
        ],
        "failed",
    )
    assert report.passed(Check.PART_MD5, Check.PUT_MD5, Check.PART_COPY_SOURCE_MD5)
    assert report.tier == "md5"
    assert report.conclusive
    assert not report.commit_by_put
    assert report.conditional_put_absent
    assert report.conditional_put_match
    assert not report.conditional_complete
    assert report.part_copy
    assert not report.conditional_delete
    assert (await ceph_store.list(prefix)).entries == []
    assert await ceph_store.list_uploads(prefix) == []


async def test_the_probe_signs_for_the_endpoint_that_is_dialled(
    s3_settings: S3, http: aiohttp.ClientSession, prefix: str
) -> None:
    public = f"http://127.0.0.1:{free_port()}"
    store = await open_store(s3_settings.model_copy(update={"public_endpoint": public}))
    report = await probe(store, prefix, HttpSender(http))
    await store.aclose()
    assert report.tier == "sha256", report.findings


# --- a strict store, and less strict ones ---


async def test_a_strict_store_passes_everything() -> None:
    store = MemoryStore()
    report = await probe(store, "some/prefix/", store)
    assert not_passed(report) == {}
    assert report.tier == "sha256"
    assert report.commit_by_put
    assert report.conditional_complete
    assert store.objects == {}
    assert await store.list_uploads("") == []


class NoDigests(RequestGate):
    def check_digests(self, headers: Mapping[str, str], body: bytes) -> None:
        """Nothing is compared."""


class NoSignature(RequestGate):
    def check_signature(self, request: SignedRequest, signed: Mapping[str, str]) -> None:
        """Everybody may."""


class NoExpiry(RequestGate):
    def check_expiry(self, query: Mapping[str, str], now: datetime) -> None:
        """For ever."""


class NoExtraCheck(RequestGate):
    def check_extra(self, signed: list[str], headers: Mapping[str, str]) -> None:
        """Anything goes."""


def both(*names: str) -> set[str]:
    return {f"{kind}_{name}" for kind in ("part", "put") for name in names}


@pytest.mark.parametrize(
    ("gate", "missing"),
    [
        (NoDigests, both("sha256", "md5")),
        (NoExpiry, both("expiry")),
        # The length is only bound by the signature here, as on real stores.
        (NoSignature, both("signature")),
        (NoExtraCheck, both("copy_source", "acl", "grant", "tagging", "meta") | {"part_copy_source_md5"}),
    ],
)
async def test_what_a_gate_lacks_is_found(gate: Callable[[], RequestGate], missing: set[str]) -> None:
    store = MemoryStore(gate=gate())
    report = await probe(store, "", store)
    found = set(not_passed(report))
    assert {Check(name) for name in missing} <= found <= {Check(name) for name in missing | both("length")}
    assert report.tier == "none"
    assert not report.commit_by_put


class NoSha256(RequestGate):
    """Ignores SHA-256, as Ceph and many others."""

    def check_digests(self, headers: Mapping[str, str], body: bytes) -> None:
        super().check_digests({name: value for name, value in headers.items() if name == "content-md5"}, body)


class NoMd5(RequestGate):
    def check_digests(self, headers: Mapping[str, str], body: bytes) -> None:
        super().check_digests({name: value for name, value in headers.items() if name != "content-md5"}, body)


class CopiesWhereSha256IsSigned(RequestGate):
    """Takes a copy source, signed or not, unless an MD5 is signed too."""

    def check_extra(self, signed: list[str], headers: Mapping[str, str]) -> None:
        if "content-md5" in signed:
            super().check_extra(signed, headers)


@pytest.mark.parametrize(
    ("gate", "missing", "tier"),
    [
        (NoSha256, both("sha256"), "md5"),
        (NoMd5, both("md5"), "sha256"),
        (CopiesWhereSha256IsSigned, both("copy_source", "acl", "grant", "tagging", "meta"), "md5"),
    ],
)
async def test_the_tier_is_the_best_one_of_which_every_row_passed(
    gate: Callable[[], RequestGate], missing: set[str], tier: str
) -> None:
    store = MemoryStore(gate=gate())
    report = await probe(store, "", store)
    assert not_passed(report) == {Check(name): "failed" for name in missing}
    assert report.tier == tier
    assert report.tier_conclusive
    assert report.commit_by_put is (tier == "sha256")


class RacingCompletes(MemoryStore):
    """Looks, waits, then publishes: every one that looked in time wins."""

    async def complete(
        self, upload: StoreUpload, parts: Sequence[FinishedPart], condition: Condition | None = None
    ) -> str | None:
        self.check_condition(upload.key, condition)
        await asyncio.sleep(0)
        return await super().complete(upload, parts)


class ForgivingPuts(MemoryStore):
    """Ignores preconditions of PutObject."""

    def take_put(self, received: Received) -> None:
        headers = {name: value for name, value in received.headers.items() if not name.startswith("if-")}
        super().take_put(
            Received(
                method=received.method, key=received.key, query=received.query, headers=headers, body=received.body
            )
        )


class NoConditionalComplete(MemoryStore):
    """Has never heard of it."""

    async def complete(
        self, upload: StoreUpload, parts: Sequence[FinishedPart], condition: Condition | None = None
    ) -> str | None:
        if condition is not None:
            raise Unsupported("CompleteMultipartUpload: NotImplemented (HTTP 501)", code="NotImplemented")
        return await super().complete(upload, parts)


class ForgetfulListing(MemoryStore):
    """Shows the first page only."""

    async def list_parts(self, upload: StoreUpload) -> list[StoredPart] | None:
        found = await super().list_parts(upload)
        return found[:2] if found else found


class OtherETags(MemoryStore):
    """Part ETags that are no MD5, as of a store that encrypts."""

    async def list_parts(self, upload: StoreUpload) -> list[StoredPart] | None:
        found = await super().list_parts(upload)
        return None if found is None else [replace(part, etag=part.etag[::-1]) for part in found]

    async def complete(
        self, upload: StoreUpload, parts: Sequence[FinishedPart], condition: Condition | None = None
    ) -> str | None:
        return await super().complete(upload, [replace(part, etag=part.etag[::-1]) for part in parts], condition)


class EmptyCopies(MemoryStore):
    """Answers success, and keeps nothing of what it should have copied."""

    async def copy_part(
        self, upload: StoreUpload, number: int, source: str, *, span: tuple[int, int] | None, source_etag: str | None
    ) -> CopiedPart:
        copied = await super().copy_part(upload, number, source, span=span, source_etag=source_etag)
        if span is not None:
            self._uploads[upload.upload_id].parts[number] = b""
        return copied


class OtherCopies(MemoryStore):
    """Copies as many bytes as it should, and not the right ones; it says so."""

    async def copy_part(
        self, upload: StoreUpload, number: int, source: str, *, span: tuple[int, int] | None, source_etag: str | None
    ) -> CopiedPart:
        length = span[1] - span[0] + 1 if span else len(self.objects[source].body)
        body = self._uploads[upload.upload_id].parts[number] = b"x" * length
        return CopiedPart(etag=hashlib.md5(body).hexdigest(), sha256=None)


class LyingCopies(OtherCopies):
    """As `OtherCopies`, and says that all is well."""

    async def copy_part(
        self, upload: StoreUpload, number: int, source: str, *, span: tuple[int, int] | None, source_etag: str | None
    ) -> CopiedPart:
        right = await MemoryStore.copy_part(self, upload, number, source, span=span, source_etag=source_etag)
        await super().copy_part(upload, number, source, span=span, source_etag=source_etag)
        return right


class BlindDeletes(MemoryStore):
    async def delete_if_match(self, key: str, etag: str) -> None:
        await self.delete(key)


class DeletesNothing(MemoryStore):
    async def delete_if_match(self, key: str, etag: str) -> None:
        raise ConditionFailed("never", code="PreconditionFailed")


class NoPartHashes(MemoryStore):
    """Answers MalformedXML to SHA-256 in a complete."""

    async def complete(
        self, upload: StoreUpload, parts: Sequence[FinishedPart], condition: Condition | None = None
    ) -> str | None:
        if any(part.sha256 is not None for part in parts):
            raise Refused("CompleteMultipartUpload: MalformedXML (HTTP 400)", code="MalformedXML")
        return await super().complete(upload, parts, condition)


class Undead(MemoryStore):
    """Keeps uploads after their end: what comes late undoes what came between."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: dict[str, list[bytes]] = {}

    async def complete(
        self, upload: StoreUpload, parts: Sequence[FinishedPart], condition: Condition | None = None
    ) -> str | None:
        held = self._upload(upload)
        if held is not None:
            self.ended[upload.upload_id] = list(held.parts.values())
        elif upload.upload_id in self.ended:
            return self._publish(upload.key, self.ended[upload.upload_id], ObjectHeaders())
        return await super().complete(upload, parts, condition)

    async def abort(self, upload: StoreUpload) -> bool:
        held = self._upload(upload)
        if held is not None:
            self.ended[upload.upload_id] = []
        return await super().abort(upload)

    def take_part(self, received: Received) -> None:
        if received.query["uploadId"] in self.ended:
            self._put(received.key, received.body, ObjectHeaders())
        else:
            super().take_part(received)


async def test_what_is_known_to_race_is_not_believed_even_when_no_race_is_seen() -> None:
    store = MemoryStore(limits=StoreLimits(completes_race=True))
    report = await probe(store, "", store)
    assert not_passed(report) == {Check.COMPLETE_CONDITION: "failed", Check.COMPLETE_AGAINST_PUT: "failed"}
    assert not report.conditional_complete
    assert report.tier == "sha256"
    assert "known to let several win" in "\n".join(report.findings)


@pytest.mark.parametrize(
    ("make", "missing", "tier"),
    [
        (RacingCompletes, {"complete_condition", "complete_against_put"}, "sha256"),
        (NoConditionalComplete, {"complete_condition", "complete_against_put"}, "sha256"),
        (ForgivingPuts, {"put_if_absent", "put_if_match", "complete_against_put"}, "sha256"),
        (ForgetfulListing, {"list_parts_pages"}, "none"),
        (NoPartHashes, {"complete_sha256"}, "sha256"),
        (OtherETags, {"part_etag_md5"}, "sha256"),
        (EmptyCopies, {"part_copy_range"}, "sha256"),
        (OtherCopies, {"part_copy_range", "part_copy_whole"}, "sha256"),
        (LyingCopies, {"part_copy_range", "part_copy_whole"}, "sha256"),
        (BlindDeletes, {"delete_if_match"}, "sha256"),
        (DeletesNothing, {"delete_if_match"}, "sha256"),
        (
            Undead,
            {"part_after_complete", "part_after_abort", "complete_after_overwrite", "complete_after_delete"},
            "sha256",
        ),
    ],
)
async def test_what_a_store_lacks_is_found(make: Callable[[], MemoryStore], missing: set[str], tier: str) -> None:
    store = make()
    report = await probe(store, "", store)
    assert not_passed(report) == {Check(name): "failed" for name in missing}
    assert report.tier == tier
    assert report.conditional_complete is not bool(missing & {"complete_condition", "complete_against_put"})
    assert report.commit_by_put is (tier == "sha256" and not any(name.startswith("put_") for name in missing))
    assert report.part_copy is not any(name.startswith("part_copy_") for name in missing)
    assert report.conditional_delete is ("delete_if_match" not in missing)
    assert all(WHEN_FAILED[Check(name)] in "\n".join(report.findings) for name in missing)
    assert store.objects == {}


# --- what is no verdict ---


class Flaky(MemoryStore):
    """Answers some requests with a 503."""

    async def send(self, request: SignedRequest, body: bytes, extra: Mapping[str, str] | None = None) -> int:
        return 503 if "/put-" in request.url else await super().send(request, body, extra)


async def test_a_5xx_is_inconclusive_and_grants_nothing() -> None:
    store = Flaky()
    report = await probe(store, "", store)
    verdicts = not_passed(report)
    assert set(verdicts.values()) == {"inconclusive"}
    assert Check.PUT_ACCEPTED in verdicts
    assert report.conclusive
    assert report.tier == "sha256"
    assert report.tier_conclusive
    assert not report.commit_by_put


class Racing503(MemoryStore):
    async def send(self, request: SignedRequest, body: bytes, extra: Mapping[str, str] | None = None) -> int:
        return 503 if "/race-" in request.url else await super().send(request, body, extra)


async def test_without_an_answer_on_conditional_puts_nothing_may_begin() -> None:
    store = Racing503()
    report = await probe(store, "", store)
    assert report.tier_conclusive
    assert not report.conclusive


class ManyAnswered500(MemoryStore):
    """Lets one of several PUTs win, and answers the others 500; the winner too unless `tells`."""

    tells = True

    async def send(self, request: SignedRequest, body: bytes, extra: Mapping[str, str] | None = None) -> int:
        status = await super().send(request, body, extra)
        if "/race-" not in request.url or (status == 200 and self.tells):
            return status
        return 500


class AllAnswered500(ManyAnswered500):
    tells = False


async def test_of_a_race_one_winner_is_enough_whatever_the_others_were_answered() -> None:
    store = ManyAnswered500()
    report = await probe(store, "", store)
    assert not_passed(report) == {}


async def test_a_race_that_nobody_was_told_to_have_won_is_inconclusive() -> None:
    store = AllAnswered500()
    verdicts = not_passed(await probe(store, "", store))
    assert verdicts[Check.PUT_IF_ABSENT] == verdicts[Check.PUT_IF_MATCH] == "inconclusive"


class Repeated500(MemoryStore):
    """Answers the complete of an upload that is gone with an error of its own, as Ceph; `code` is in its body."""

    code = "InternalError"

    async def complete(
        self, upload: StoreUpload, parts: Sequence[FinishedPart], condition: Condition | None = None
    ) -> str | None:
        if await self.list_parts(upload) is None:
            raise Transient(f"CompleteMultipartUpload: {self.code} (HTTP 500)", code=self.code)
        return await super().complete(upload, parts, condition)


class Repeated503(Repeated500):
    code = "SlowDown"


async def test_an_internal_error_is_an_answer_to_a_repeated_complete() -> None:
    store = Repeated500()
    assert not_passed(await probe(store, "", store)) == {}
    slow = Repeated503()
    late = (Check.COMPLETE_AFTER_OVERWRITE, Check.COMPLETE_AFTER_DELETE)
    assert not_passed(await probe(slow, "", slow)) == dict.fromkeys(late, "inconclusive")


class Denied(MemoryStore):
    """Its credentials are withdrawn in the middle of the probe."""

    async def list_parts(self, upload: StoreUpload) -> list[StoredPart] | None:
        raise Permanent("no right", code="AccessDenied")


async def test_a_store_that_does_not_serve_us_says_nothing_of_what_it_enforces() -> None:
    store = Denied()
    with pytest.raises(Permanent, match="no right"):
        await probe(store, "", store)


class Slow(MemoryStore):
    """Answers nothing, and cannot be cleaned either."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def send(self, request: SignedRequest, body: bytes, extra: Mapping[str, str] | None = None) -> int:
        self.asked.set()
        await asyncio.Event().wait()
        return 0

    async def list(self, prefix: str, **_: Any) -> Page:
        raise Transient("down", code="Down")


async def test_a_probe_that_is_cancelled_ends_as_cancelled() -> None:
    store = Slow()
    task = asyncio.create_task(probe(store, "", store))
    await store.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_store_that_is_not_there_is_inconclusive_or_transient(s3_settings: S3, prefix: str) -> None:
    store = await open_store(s3_settings.model_copy(update={"endpoint": f"http://127.0.0.1:{free_port()}"}))
    async with aiohttp.ClientSession() as http:
        with pytest.raises(Transient):
            await probe(store, prefix, HttpSender(http))
    await store.aclose()


async def test_a_store_that_refuses_everything_passes_nothing() -> None:
    class Closed(MemoryStore):
        async def send(self, request: SignedRequest, body: bytes, extra: Mapping[str, str] | None = None) -> int:
            return 403

    store = Closed()
    report = await probe(store, "", store)
    assert report.tier == "none"
    assert report.tier_conclusive
    assert not report.commit_by_put
    assert not report.conditional_put_absent


async def test_a_driver_that_cannot_be_probed_says_so() -> None:
    memory = MemoryStore()
    core = cast("Store", _Core(memory, _through))
    with pytest.raises(Unsupported):
        await probe(core, "", memory)


async def _through(operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
    return await call()


async def test_a_store_that_forbids_cleaning_up_says_so() -> None:
    async def around(operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        if operation.name == "delete":
            raise Permanent("DeleteObject: AccessDenied (HTTP 403)", code="AccessDenied")
        return await call()

    memory = MemoryStore()
    with pytest.raises(Permanent):
        await probe(wrap(memory, around), "", memory)


# --- leaving nothing behind ---


async def test_a_cancelled_probe_cleans_up() -> None:
    memory = MemoryStore()
    reached = asyncio.Event()

    async def around(operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        if operation.name == "get_small":
            reached.set()
            await asyncio.Event().wait()
        return await call()

    task = asyncio.create_task(probe(wrap(memory, around), "", memory))
    await reached.wait()
    assert memory.objects
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert memory.objects == {}
    assert await memory.list_uploads("") == []


async def test_what_killed_probes_left_is_removed_after_an_hour() -> None:
    now = datetime.now(UTC)
    memory = MemoryStore(clock=lambda: now)
    await memory.put_small(f"p/{FOLDER}old/x", b"1")
    await memory.put_small("p/file", b"1")
    now += timedelta(minutes=50)
    await memory.put_small(f"p/{FOLDER}young/x", b"1")
    await probe(memory, "p/", memory)
    assert len(memory.objects) == 3
    now += timedelta(minutes=20)
    await probe(memory, "p/", memory)
    assert sorted(memory.objects) == [f"p/{FOLDER}young/x", "p/file"]


# --- the report ---


def rows(**verdicts: str) -> tuple[Row, ...]:
    return tuple(Row(check=check, verdict=verdicts.get(check, "passed"), seen="s") for check in Check)


def test_a_report_round_trips() -> None:
    report = ProbeReport(rows=rows(put_acl="failed", put_grant="inconclusive"), probed_at=datetime.now(UTC))
    again = ProbeReport.from_json(report.to_json())
    assert again == report
    assert '"tier": "sha256"' in report.to_json()
    assert len(again.findings) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2}',
        '{"format": 1, "rows": [], "probed_at": "2026-11-22T12:00:00+00:00"}',
        '{"format": 1, "rows": [{"check": "nonsense", "verdict": "passed", "seen": ""}], "probed_at": "x"}',
        '{"format": 1, "rows": [{"check": "part_acl", "verdict": "maybe", "seen": ""}], "probed_at": "x"}',
    ],
)
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ProbeReport.from_json(text)


def test_a_tier_that_could_not_be_found_out_is_told_from_one_that_is_missing() -> None:
    now = datetime.now(UTC)
    unknown = ProbeReport(rows=rows(part_length="inconclusive"), probed_at=now)
    assert (unknown.tier, unknown.tier_conclusive) == ("none", False)
    lacking = ProbeReport(rows=rows(part_sha256="failed", part_md5="failed", part_length="inconclusive"), probed_at=now)
    assert (lacking.tier, lacking.tier_conclusive) == ("none", True)
    half = ProbeReport(rows=rows(part_sha256="failed", part_md5="inconclusive"), probed_at=now)
    assert (half.tier, half.tier_conclusive) == ("none", False)
    better = ProbeReport(rows=rows(part_sha256="inconclusive"), probed_at=now)
    assert (better.tier, better.tier_conclusive) == ("md5", False)


def test_an_assumed_report_grants_everything() -> None:
    report = ProbeReport.assumed_strict(datetime.now(UTC))
    assert report.tier == "sha256"
    assert report.commit_by_put
    assert report.conditional_complete
    assert report.findings == ()


def test_every_row_has_its_words() -> None:
    assert set(WHEN_FAILED) == set(Check)
