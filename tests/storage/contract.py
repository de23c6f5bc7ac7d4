"""The contract of a store, as `putgate_storage.store` writes it: one test per sentence, for every driver alike."""

from __future__ import annotations

import asyncio
import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Protocol

import pytest

from putgate_protocol.digests import PartHash
from putgate_protocol.names import encode
from putgate_storage.errors import ConditionFailed, Refused, Transient
from putgate_storage.store import (
    AllowsOrigins,
    Condition,
    CopiesParts,
    DeletesIfMatch,
    ExpiresUploads,
    FinishedPart,
    IfAbsent,
    IfMatch,
    ListsUploads,
    ManagesBucket,
    ObjectHeaders,
    PartToSign,
    PutToSign,
    SignedRequest,
    Store,
    StoreUpload,
)

LIFE = timedelta(minutes=1)

ODD_NAMES = [
    b"plain",
    b"with space",
    b" leading and trailing ",
    "grüße/日本/🙂".encode(),
    b"a+b",
    b"100%",
    b"%41",
    b"hash#query?a=b&c=d",
    b"back\\slash",
    b"new\nline\ttab",
    b"\xff\xfe not utf-8",
    b"quotes\"'`",
    b"<xml>&amp;",
    b";:@=,$!*()[]{}|^~",
    b"..dots.../...",
    b"x" * 255,
]


class Holder(Protocol):
    """Somebody who holds signed requests and no credentials."""

    async def send(self, request: SignedRequest, body: bytes) -> int: ...

    async def fetch(self, request: SignedRequest) -> bytes | None: ...


def put_of(key: str, body: bytes, condition: Condition | None = None, **headers: str) -> PutToSign:
    return PutToSign(
        key=key,
        length=len(body),
        sha256=PartHash.of(body),
        headers=ObjectHeaders(metadata={name.replace("_", "-"): value for name, value in headers.items()}),
        condition=condition,
    )


async def send_parts(store: Store, holder: Holder, upload: StoreUpload, bodies: Sequence[bytes]) -> list[FinishedPart]:
    parts = [
        PartToSign(number=number, length=len(body), sha256=PartHash.of(body)) for number, body in enumerate(bodies, 1)
    ]
    requests = await store.sign_parts(upload, parts, LIFE)
    for request, body in zip(requests, bodies, strict=True):
        assert await holder.send(request, body) == 200
    held = await store.list_parts(upload)
    assert held is not None
    return [
        FinishedPart(number=part.number, etag=part.etag, sha256=PartHash.of(bodies[part.number - 1])) for part in held
    ]


async def ready(store: Store, holder: Holder, key: str, body: bytes) -> tuple[StoreUpload, list[FinishedPart]]:
    upload = await store.create_upload(key, ObjectHeaders())
    return upload, await send_parts(store, holder, upload, [body])


class Deviating:
    """`deviates`: what a real store is known to do otherwise, by test, with the reason. Such a test has to fail: a
    store that has learnt better is noticed, and no test is skipped.
    """

    deviates: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _deviation(self, request: pytest.FixtureRequest) -> None:
        reason = self.deviates.get(request.node.originalname)
        if reason is not None:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


class BucketContract(Deviating):
    """Of stores that manage their bucket. Subclasses give `fresh`, a store whose bucket is not there yet."""

    async def test_a_bucket_comes_and_goes(self, fresh: Store) -> None:
        assert isinstance(fresh, ManagesBucket)
        assert await fresh.bucket_exists() is False
        await fresh.delete_bucket()
        assert await fresh.create_bucket() is True
        assert await fresh.bucket_exists() is True
        await fresh.put_small("some/key", b"x")
        await fresh.delete("some/key")
        await fresh.delete_bucket()
        assert await fresh.bucket_exists() is False
        await fresh.delete_bucket()

    async def test_creating_it_again_is_fine(self, fresh: Store) -> None:
        assert isinstance(fresh, ManagesBucket)
        await fresh.create_bucket()
        await fresh.put_small("some/key", b"x")
        assert await fresh.create_bucket() in {True, False}
        assert await fresh.head("some/key") is not None


class StoreContract(Deviating):
    """Subclasses give `store` and `holder`; `prefix` is unique per test.

    `unclear_losers`: a conditional PUT that loses at the very same moment may be answered 500 instead of 412.
    """

    unclear_losers: ClassVar[bool] = False

    @pytest.fixture
    @abstractmethod
    def holder(self) -> Holder: ...

    # --- clock, limits ---

    async def test_now_is_the_time(self, store: Store, prefix: str) -> None:
        await store.put_small(prefix + "x", b"")
        assert abs(store.now() - datetime.now(UTC)) < timedelta(seconds=3)

    async def test_limits_are_usable(self, store: Store) -> None:
        assert 1 <= store.limits.min_part_size <= store.limits.max_part_size <= store.limits.max_object_size
        assert store.limits.max_parts >= 2

    # --- uploads ---

    async def test_an_upload_shows_nothing_before_it_is_completed(
        self, store: Store, holder: Holder, prefix: str
    ) -> None:
        upload, _ = await ready(store, holder, prefix + "x", b"bytes")
        assert upload.key == prefix + "x"
        assert await store.head(prefix + "x") is None
        assert (await store.list(prefix)).entries == []
        await store.abort(upload)

    async def test_a_new_upload_has_no_parts(self, store: Store, prefix: str) -> None:
        upload = await store.create_upload(prefix + "x", ObjectHeaders())
        assert await store.list_parts(upload) == []
        await store.abort(upload)

    async def test_parts_are_listed_ascending_with_size_and_md5_etag(
        self, store: Store, holder: Holder, prefix: str
    ) -> None:
        upload = await store.create_upload(prefix + "x", ObjectHeaders())
        bodies = {3: b"three", 1: b"o", 2: b"tw"}
        for number, body in bodies.items():
            to_sign = PartToSign(number=number, length=len(body), sha256=PartHash.of(body))
            (request,) = await store.sign_parts(upload, [to_sign], LIFE)
            assert await holder.send(request, body) == 200
        held = await store.list_parts(upload)
        assert held is not None
        assert [(part.number, part.size, part.etag) for part in held] == [
            (number, len(bodies[number]), hashlib.md5(bodies[number]).hexdigest()) for number in (1, 2, 3)
        ]
        await store.abort(upload)

    async def test_a_part_sent_again_replaces_the_first(self, store: Store, holder: Holder, prefix: str) -> None:
        """The same bytes, which is all that is ever signed for one part number; listed once."""
        upload, _ = await ready(store, holder, prefix + "x", b"bytes")
        (part,) = await send_parts(store, holder, upload, [b"bytes"])
        await store.complete(upload, [part])
        small = await store.get_small(prefix + "x", 100)
        assert small is not None
        assert small.body == b"bytes"

    async def test_no_upload_has_no_parts_list(self, store: Store, holder: Holder, prefix: str) -> None:
        upload, parts = await ready(store, holder, prefix + "done", b"bytes")
        await store.complete(upload, parts)
        assert await store.list_parts(upload) is None
        upload, _ = await ready(store, holder, prefix + "aborted", b"bytes")
        await store.abort(upload)
        assert await store.list_parts(upload) is None

    async def test_complete_publishes_under_the_key(self, store: Store, holder: Holder, prefix: str) -> None:
        headers = ObjectHeaders(content_type="video/mp4", metadata={"putgate-upload": "n0nce", "putgate-size": "5"})
        upload = await store.create_upload(prefix + "x", headers)
        bodies = [b"a" * store.limits.min_part_size, b"tail"]
        etag = await store.complete(upload, await send_parts(store, holder, upload, bodies))
        head = await store.head(prefix + "x")
        assert head is not None
        assert etag in ("", head.etag)
        assert head.size == len(bodies[0]) + 4
        assert head.content_type == "video/mp4"
        assert dict(head.metadata) == {"putgate-upload": "n0nce", "putgate-size": "5"}

    async def test_complete_of_nothing_is_none_or_repeats_success(
        self, store: Store, holder: Holder, prefix: str
    ) -> None:
        upload, parts = await ready(store, holder, prefix + "x", b"bytes")
        etag = await store.complete(upload, parts)
        head = await store.head(prefix + "x")
        assert head is not None
        assert etag in ("", head.etag)
        assert await store.complete(upload, parts) in (None, "", head.etag)
        aborted, parts = await ready(store, holder, prefix + "y", b"bytes")
        await store.abort(aborted)
        assert await store.complete(aborted, parts) is None
        assert await store.head(prefix + "y") is None

    @pytest.mark.parametrize("wrong", ["missing", "etag"])
    async def test_complete_refuses_parts_that_are_not_there(
        self, store: Store, holder: Holder, prefix: str, wrong: str
    ) -> None:
        upload, (part,) = await ready(store, holder, prefix + "x", b"bytes")
        other = {
            "missing": [part, FinishedPart(number=2, etag=part.etag, sha256=part.sha256)],
            "etag": [FinishedPart(number=1, etag="0" * 32, sha256=part.sha256)],
        }
        with pytest.raises(Refused):
            await store.complete(upload, other[wrong])
        assert await store.head(prefix + "x") is None
        assert await store.complete(upload, [part]) is not None

    async def test_complete_refuses_a_small_part_before_the_last(
        self, store: Store, holder: Holder, prefix: str
    ) -> None:
        upload = await store.create_upload(prefix + "x", ObjectHeaders())
        parts = await send_parts(store, holder, upload, [b"too small", b"tail"])
        with pytest.raises(Refused):
            await store.complete(upload, parts)
        await store.abort(upload)

    async def test_complete_with_a_condition(self, store: Store, holder: Holder, prefix: str) -> None:
        key = prefix + "x"
        upload, parts = await ready(store, holder, key, b"first")
        etag = await store.complete(upload, parts, IfAbsent())
        assert etag is not None
        for condition in (IfAbsent(), IfMatch(etag="0" * 32)):
            late, parts = await ready(store, holder, key, b"late")
            with pytest.raises(ConditionFailed):
                await store.complete(late, parts, condition)
            await store.abort(late)
        matching, parts = await ready(store, holder, key, b"second")
        assert await store.complete(matching, parts, IfMatch(etag=etag)) is not None
        small = await store.get_small(key, 100)
        assert small is not None
        assert small.body == b"second"

    async def test_abort_drops_the_upload(self, store: Store, holder: Holder, prefix: str) -> None:
        upload, _ = await ready(store, holder, prefix + "x", b"bytes")
        assert await store.abort(upload) is True
        assert isinstance(await store.abort(upload), bool)
        assert await store.head(prefix + "x") is None

    async def test_parts_do_not_come_after_the_end(self, store: Store, holder: Holder, prefix: str) -> None:
        upload, parts = await ready(store, holder, prefix + "x", b"bytes")
        to_sign = PartToSign(number=1, length=5, sha256=PartHash.of(b"other"))
        (request,) = await store.sign_parts(upload, [to_sign], LIFE)
        await store.complete(upload, parts)
        assert await holder.send(request, b"other") == 404
        small = await store.get_small(prefix + "x", 100)
        assert small is not None
        assert small.body == b"bytes"

    # --- objects ---

    async def test_what_is_absent_is_none(self, store: Store, prefix: str) -> None:
        assert await store.head(prefix + "x") is None
        assert await store.get_small(prefix + "x", 10) is None
        await store.delete(prefix + "x")

    async def test_head_says_what_is_stored(self, store: Store, prefix: str) -> None:
        headers = ObjectHeaders(content_type="application/json", metadata={"owner": "someone", "a-b-1": "x y z"})
        etag = await store.put_small(prefix + "x", b"12345", headers=headers)
        head = await store.head(prefix + "x")
        assert head is not None
        assert (head.size, head.etag, head.content_type) == (5, etag, "application/json")
        assert dict(head.metadata) == {"owner": "someone", "a-b-1": "x y z"}
        for moment in (head.modified, head.date):
            assert moment.utcoffset() == timedelta(0)
            assert abs(moment - datetime.now(UTC)) < timedelta(seconds=10)

    async def test_small_objects_are_read_whole(self, store: Store, prefix: str) -> None:
        for body in (b"", b"x", bytes(range(256)) * 40):
            etag = await store.put_small(prefix + "x", body)
            small = await store.get_small(prefix + "x", len(body))
            assert small is not None
            assert (small.body, small.etag) == (body, etag)

    async def test_a_larger_object_is_refused(self, store: Store, prefix: str) -> None:
        await store.put_small(prefix + "x", b"12345")
        with pytest.raises(Refused) as refused:
            await store.get_small(prefix + "x", 4)
        assert refused.value.code == "TooLarge"

    async def test_put_overwrites(self, store: Store, prefix: str) -> None:
        first = await store.put_small(prefix + "x", b"1")
        assert await store.put_small(prefix + "x", b"2") != first

    async def test_conditional_puts(self, store: Store, prefix: str) -> None:
        key = prefix + "x"
        with pytest.raises(ConditionFailed):
            await store.put_small(key, b"0", condition=IfMatch(etag="0" * 32))
        etag = await store.put_small(key, b"1", condition=IfAbsent())
        with pytest.raises(ConditionFailed):
            await store.put_small(key, b"2", condition=IfAbsent())
        with pytest.raises(ConditionFailed):
            await store.put_small(key, b"2", condition=IfMatch(etag="0" * 32))
        second = await store.put_small(key, b"2", condition=IfMatch(etag=etag))
        head = await store.head(key)
        assert head is not None
        assert head.etag == second

    async def test_of_eight_conditional_puts_one_wins(self, store: Store, prefix: str) -> None:
        async def wins(number: int, condition: Condition) -> bool:
            try:
                await store.put_small(prefix + "x", b"%d" % number, condition=condition)
            except ConditionFailed:
                return False
            except Transient:
                if not self.unclear_losers:
                    raise
                return False
            return True

        won = await asyncio.gather(*(wins(number, IfAbsent()) for number in range(8)))
        assert sum(won) == 1
        small = await store.get_small(prefix + "x", 10)
        assert small is not None
        assert small.body == b"%d" % won.index(True)
        won = await asyncio.gather(*(wins(number, IfMatch(etag=small.etag)) for number in range(10, 18)))
        assert sum(won) == 1
        small = await store.get_small(prefix + "x", 10)
        assert small is not None
        assert small.body == b"%d" % (10 + won.index(True))

    async def test_delete_removes(self, store: Store, prefix: str) -> None:
        await store.put_small(prefix + "x", b"1")
        await store.delete(prefix + "x")
        assert await store.head(prefix + "x") is None

    # --- listing ---

    async def test_every_key_round_trips(self, store: Store, holder: Holder, prefix: str) -> None:
        keys = [prefix + encode(name) for name in ODD_NAMES]
        for key in keys[::2]:
            await store.put_small(key, key.encode())
        for key in keys[1::2]:
            assert await holder.send(await store.sign_put(put_of(key, key.encode()), LIFE), key.encode()) == 200
        listed = await store.list(prefix)
        assert sorted(entry.key for entry in listed.entries) == sorted(keys)
        for key in keys:
            small = await store.get_small(key, 4096)
            assert small is not None
            assert small.body == key.encode()
            assert await holder.fetch(await store.sign_get(key, LIFE)) == key.encode()
            page = await store.list(key)
            assert key in [entry.key for entry in page.entries]
            upload, parts = await ready(store, holder, key, b"by parts")
            assert await store.complete(upload, parts) is not None
            await store.delete(key)
        assert (await store.list(prefix)).entries == []

    async def test_entries_say_what_is_stored(self, store: Store, prefix: str) -> None:
        etag = await store.put_small(prefix + "x", b"12345")
        (entry,) = (await store.list(prefix)).entries
        assert (entry.key, entry.size, entry.etag) == (prefix + "x", 5, etag)
        assert abs(entry.modified - datetime.now(UTC)) < timedelta(seconds=10)

    async def test_a_listing_goes_on_by_its_token(self, store: Store, prefix: str) -> None:
        keys = [f"{prefix}k/{number:02}" for number in range(7)]
        for key in keys:
            await store.put_small(key, b"")
        await store.put_small(prefix + "l", b"")
        found: list[str] = []
        token = None
        while True:
            page = await store.list(prefix + "k/", limit=3, token=token)
            assert len(page.entries) <= 3
            found += [entry.key for entry in page.entries]
            token = page.token
            if token is None:
                break
        assert found == keys

    async def test_a_listing_starts_after_a_key(self, store: Store, prefix: str) -> None:
        for name in ("a", "b", "c/1", "c/2", "d"):
            await store.put_small(prefix + name, b"")

        async def after(start: str) -> list[str]:
            page = await store.list(prefix, start_after=prefix + start)
            return [entry.key.removeprefix(prefix) for entry in page.entries]

        assert await after("a") == ["b", "c/1", "c/2", "d"]
        assert await after("aa") == ["b", "c/1", "c/2", "d"]
        assert await after("c/1") == ["c/2", "d"]
        assert await after("c/11") == ["c/2", "d"]
        assert await after("z") == []

    async def test_a_delimiter_folds_what_is_below(self, store: Store, prefix: str) -> None:
        for name in ("a", "b/1", "b/2", "b/c/3", "d/4"):
            await store.put_small(prefix + name, b"")
        page = await store.list(prefix, delimiter="/")
        assert [entry.key for entry in page.entries] == [prefix + "a"]
        assert list(page.prefixes) == [prefix + "b/", prefix + "d/"]
        rows: list[str] = []
        token = None
        while True:
            page = await store.list(prefix, delimiter="/", limit=1, token=token)
            rows += [entry.key for entry in page.entries] + list(page.prefixes)
            token = page.token
            if token is None:
                break
        assert rows == [prefix + "a", prefix + "b/", prefix + "d/"]

    async def test_an_unknown_token_leads_nowhere_else(self, store: Store, prefix: str) -> None:
        await store.put_small(prefix + "in/x", b"")
        await store.put_small(prefix + "out", b"")
        try:
            page = await store.list(prefix + "in/", token="bm9uc2Vuc2U=")
        except Refused:
            return
        assert all(entry.key.startswith(prefix + "in/") for entry in page.entries)

    # --- signed requests ---

    async def test_signed_parts_bind_bytes_and_length(self, store: Store, holder: Holder, prefix: str) -> None:
        upload = await store.create_upload(prefix + "x", ObjectHeaders())
        to_sign = [PartToSign(number=number, length=5, sha256=PartHash.of(b"bytes")) for number in (2, 1)]
        requests = await store.sign_parts(upload, to_sign, LIFE)
        assert len(requests) == 2
        for request in requests:
            assert request.method == "PUT"
            assert request.headers["content-length"] == "5"
            assert store.now() < request.expires_at <= store.now() + LIFE
            assert await holder.send(request, b"other") in (400, 403)
            assert await holder.send(request, b"bytes and more") in (400, 403)
        assert await store.list_parts(upload) == []
        assert await holder.send(requests[0], b"bytes") == 200
        held = await store.list_parts(upload)
        assert held is not None
        assert [part.number for part in held] == [2]
        await store.abort(upload)

    async def test_signed_parts_with_md5(self, store: Store, holder: Holder, prefix: str) -> None:
        upload = await store.create_upload(prefix + "x", ObjectHeaders())
        md5 = hashlib.md5(b"bytes").digest()
        wrong = PartToSign(number=1, length=5, sha256=PartHash.of(b"bytes"), md5=hashlib.md5(b"other").digest())
        right = PartToSign(number=1, length=5, sha256=PartHash.of(b"bytes"), md5=md5)
        requests = await store.sign_parts(upload, [wrong, right], LIFE)
        assert await holder.send(requests[0], b"bytes") == 400
        assert await holder.send(requests[1], b"bytes") == 200
        await store.abort(upload)

    async def test_a_signed_put_stores_what_it_says(self, store: Store, holder: Holder, prefix: str) -> None:
        key = prefix + "x"
        put = put_of(key, b"bytes", putgate_upload="n0nce", putgate_size="5")
        request = await store.sign_put(put, LIFE)
        assert await holder.send(request, b"other") in (400, 403)
        assert await store.head(key) is None
        assert await holder.send(request, b"bytes") == 200
        head = await store.head(key)
        assert head is not None
        assert (head.size, dict(head.metadata)) == (5, {"putgate-upload": "n0nce", "putgate-size": "5"})

    async def test_a_signed_put_holds_to_its_condition(self, store: Store, holder: Holder, prefix: str) -> None:
        key = prefix + "x"
        absent = await store.sign_put(put_of(key, b"bytes", IfAbsent()), LIFE)
        assert await holder.send(absent, b"bytes") == 200
        assert await holder.send(absent, b"bytes") == 412
        head = await store.head(key)
        assert head is not None
        match = await store.sign_put(put_of(key, b"later", IfMatch(etag=head.etag)), LIFE)
        assert await holder.send(match, b"later") == 200
        assert await holder.send(match, b"later") == 412

    async def test_of_eight_signed_puts_one_wins(self, store: Store, holder: Holder, prefix: str) -> None:
        key = prefix + "x"
        requests = [await store.sign_put(put_of(key, b"%d" % n, IfAbsent()), LIFE) for n in range(8)]
        statuses = await asyncio.gather(*(holder.send(request, b"%d" % n) for n, request in enumerate(requests)))
        assert statuses.count(200) == 1
        assert set(statuses) <= ({200, 412, 500} if self.unclear_losers else {200, 412})
        small = await store.get_small(key, 10)
        assert small is not None
        assert small.body == b"%d" % statuses.index(200)

    async def test_a_signed_get_reads(self, store: Store, holder: Holder, prefix: str) -> None:
        await store.put_small(prefix + "x", b"bytes")
        request = await store.sign_get(
            prefix + "x", LIFE, content_type="text/plain", disposition='attachment; filename="a b.txt"'
        )
        assert request.method == "GET"
        assert await holder.fetch(request) == b"bytes"
        assert await holder.fetch(await store.sign_get(prefix + "none", LIFE)) is None

    # --- abilities ---

    async def test_open_uploads_are_listed(self, store: Store, prefix: str) -> None:
        assert isinstance(store, ListsUploads)
        keys = [prefix + name for name in ("a/1", "a/1", "a/2 +%25", "b")]
        uploads = [await store.create_upload(key, ObjectHeaders()) for key in keys]
        found = await store.list_uploads(prefix + "a/")
        assert sorted((it.upload.key, it.upload.upload_id) for it in found) == sorted(
            (upload.key, upload.upload_id) for upload in uploads[:3]
        )
        for each in found:
            assert each.initiated is None or abs(each.initiated - datetime.now(UTC)) < timedelta(seconds=10)
        exact = await store.list_uploads(prefix + "b")
        assert [it.upload for it in exact] == [uploads[3]]
        for upload in uploads:
            await store.abort(upload)
        assert list(await store.list_uploads(prefix)) == []

    async def test_open_uploads_are_listed_by_pages(self, store: Store, prefix: str) -> None:
        """Also while those that were shown are aborted."""
        assert isinstance(store, ListsUploads)
        opened = [await store.create_upload(f"{prefix}a/{at}", ObjectHeaders()) for at in (1, 1, 1, 2, 3)]
        seen: list[StoreUpload] = []
        token: str | None = None
        for _ in range(len(opened) + 1):
            page = await store.list_uploads_page(f"{prefix}a/", token=token, limit=2)
            assert len(page.uploads) <= 2
            seen += [found.upload for found in page.uploads]
            for found in page.uploads:
                await store.abort(found.upload)
            if (token := page.token) is None:
                break
        assert token is None
        assert sorted(upload.upload_id for upload in seen) == sorted(upload.upload_id for upload in opened)

    @pytest.mark.parametrize("name", [b"plain", "a b+c/ü&?#=🙂".encode()], ids=["plain", "odd"])
    @pytest.mark.parametrize("span", [(3, 6), None], ids=["range", "whole"])
    async def test_a_part_is_copied(self, store: Store, prefix: str, name: bytes, span: tuple[int, int] | None) -> None:
        assert isinstance(store, CopiesParts)
        source, body = prefix + encode(name), b"0123456789"
        etag = await store.put_small(source, body)
        copied = body[span[0] : span[1] + 1] if span else body
        upload = await store.create_upload(prefix + "copy", ObjectHeaders())
        part = await store.copy_part(upload, 2, source, span=span, source_etag=etag)
        assert part.etag == hashlib.md5(copied).hexdigest()
        assert part.sha256 in (None, PartHash.of(copied))
        held = await store.list_parts(upload)
        assert held is not None
        assert [(each.number, each.size, each.etag) for each in held] == [(2, len(copied), part.etag)]
        await store.complete(upload, [FinishedPart(number=2, etag=part.etag, sha256=PartHash.of(copied))])
        small = await store.get_small(prefix + "copy", 100)
        assert small is not None
        assert small.body == copied

    async def test_a_part_is_copied_from_a_key_with_a_percent_sign(self, store: Store, prefix: str) -> None:
        assert isinstance(store, CopiesParts)
        for key in (prefix + "%41", prefix + "A"):
            await store.put_small(key, key.encode())
        upload = await store.create_upload(prefix + "copy", ObjectHeaders())
        part = await store.copy_part(upload, 1, prefix + "%41", span=None, source_etag=None)
        await store.abort(upload)
        assert part.etag == hashlib.md5((prefix + "%41").encode()).hexdigest()

    async def test_a_copy_holds_to_its_sources_etag(self, store: Store, prefix: str) -> None:
        assert isinstance(store, CopiesParts)
        await store.put_small(prefix + "source", b"0123456789")
        upload = await store.create_upload(prefix + "copy", ObjectHeaders())
        with pytest.raises(ConditionFailed):
            await store.copy_part(upload, 1, prefix + "source", span=None, source_etag="0" * 32)
        assert await store.list_parts(upload) == []
        await store.abort(upload)

    async def test_what_is_not_there_is_not_copied(self, store: Store, prefix: str) -> None:
        assert isinstance(store, CopiesParts)
        await store.put_small(prefix + "source", b"0123456789")
        upload = await store.create_upload(prefix + "copy", ObjectHeaders())
        with pytest.raises(Refused):
            await store.copy_part(upload, 1, prefix + "absent", span=None, source_etag=None)
        with pytest.raises(Refused):
            await store.copy_part(upload, 1, prefix + "source", span=(10, 10), source_etag=None)
        assert await store.list_parts(upload) == []
        await store.abort(upload)
        with pytest.raises(Refused):
            await store.copy_part(upload, 1, prefix + "source", span=None, source_etag=None)

    async def test_a_conditional_delete(self, store: Store, prefix: str) -> None:
        assert isinstance(store, DeletesIfMatch)
        etag = await store.put_small(prefix + "x", b"1")
        with pytest.raises(ConditionFailed):
            await store.delete_if_match(prefix + "x", "0" * 32)
        assert await store.head(prefix + "x") is not None
        await store.delete_if_match(prefix + "x", etag)
        assert await store.head(prefix + "x") is None
        with pytest.raises(ConditionFailed):
            await store.delete_if_match(prefix + "x", etag)

    async def test_the_bucket_is_managed(self, store: Store) -> None:
        assert isinstance(store, ManagesBucket)
        await store.create_bucket()
        assert await store.bucket_exists() is True

    async def test_the_abort_rule_is_kept(self, store: Store, prefix: str) -> None:
        assert isinstance(store, ExpiresUploads)
        await store.ensure_abort_rule("putgate-test", prefix, 7)
        await store.ensure_abort_rule("putgate-test", prefix, 7)
        await store.ensure_abort_rule("putgate-test", prefix, 3)

    async def test_the_cors_rule_is_kept_and_taken_back(self, store: Store) -> None:
        assert isinstance(store, AllowsOrigins)
        for origins in (["https://a.example"], ["https://a.example", "http://b.example:8080"], ["*"], []):
            await store.ensure_cors_rule("putgate-test", origins)
            await store.ensure_cors_rule("putgate-test", origins)
