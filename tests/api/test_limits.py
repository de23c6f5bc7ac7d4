"""What one caller, and a crowd, may ask for: rates, open uploads, room for calls; each says when to come again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from putgate_api.metrics import Metrics
from putgate_api.rates import MAX_CALLERS, Rates
from putgate_api.records.sessions import key_mark
from putgate_api.routes.shedding import SMALL, Load
from putgate_api.uploads.open_uploads import FRESH, KEPT, MAX_PAGES, OpenUploads
from putgate_protocol.problems import Problem
from putgate_protocol.settings.api import Limits
from putgate_storage.memory import MemoryStore, StoredObject
from putgate_storage.store import ObjectHeaders, Page
from tests.api.calls import Calls, declaration
from tests.api.waiting import until
from tests.servers.api import ApiProcess
from tests.servers.seaweedfs import SeaweedFS

MIB = 1024 * 1024


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def narrow(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> Iterator[ApiProcess]:
    """An API with room for little."""
    process = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix)
    process.settings["limits"] = {
        "open_uploads_per_owner": 3,
        "requests_per_second": 1,
        "request_burst": 12,
        "concurrent_bytes": "4Mi",
        "body_timeout": "1s",
    }
    yield process.start_probed()
    process.kill()


async def test_an_owner_has_so_many_uploads_open_and_goes_on_with_those(
    http: aiohttp.ClientSession, narrow: ApiProcess
) -> None:
    calls = Calls(http, narrow.url, narrow.token)
    datas = [os.urandom(8 * MIB + 1) for _ in range(4)]
    opened = [await calls.initiate(f"f/{n}", data) for n, data in enumerate(datas)]
    assert [status for status, _ in opened] == [200, 200, 200, 429]
    refused = opened[3][1]
    assert refused["code"] == "too_many_uploads"
    assert refused["retry_after"] > 0
    # One that is open goes on; another owner begins; and an end makes room.
    assert (await calls.initiate("f/0", datas[0]))[0] == 200
    other = Calls(http, narrow.url, narrow.add_token(subject="other"))
    assert (await other.initiate("g/0", datas[0]))[0] == 200
    assert (await calls.post("abort_multipart_upload", {"upload_id": opened[1][1]["upload_id"]}))[0] == 200
    await until(lambda: calls.initiate("f/3", datas[3]), lambda answer: answer[0] == 200, within=4 * FRESH)


async def test_who_calls_too_often_is_told_how_long_to_wait(http: aiohttp.ClientSession, narrow: ApiProcess) -> None:
    calls = Calls(http, narrow.url, narrow.token)
    answers = await asyncio.gather(*(calls.list() for _ in range(200)))
    refused = [body for status, body in answers if status == 429]
    assert refused
    assert {body["code"] for body in refused} == {"rate_limited"}
    assert all(0 < body["retry_after"] <= 1 for body in refused)
    assert sum(status == 200 for status, _ in answers) >= 12
    other = Calls(http, narrow.url, narrow.add_token(subject="other"))
    assert (await other.list())[0] == 200


LARGEST = f"Content-Length: {4 * MIB}"


async def announce(api: ApiProcess, token: str, *body: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The head of a call with the largest body, or with one that has these headers, which does not follow."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = ("POST /object/batch HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", *(body or (LARGEST,)))
    writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("body", [LARGEST, "Transfer-Encoding: chunked"])
async def test_there_is_room_for_so_many_bytes_and_a_body_that_never_comes_gives_its_room_back(
    http: aiohttp.ClientSession, narrow: ApiProcess, body: str
) -> None:
    calls = Calls(http, narrow.url, narrow.add_token(subject="caller"))
    large = {"items": [{"initiate": declaration("x", b"x")}], "unknown": "x" * SMALL}
    async with asyncio.timeout(30):
        reader, writer = await announce(narrow, narrow.token, body)
        while (answer := await calls.post("batch", large))[0] != 503:
            pass
    assert answer[1]["code"] == "not_ready"
    assert answer[1]["retry_after"] >= 1
    # Small calls go on.
    assert (await calls.initiate("x", b"x"))[0] == 200
    async with http.get(f"{narrow.admin_url}/healthz") as health:
        assert health.status == 200
    async with asyncio.timeout(30):
        assert b"400" in await reader.readline()
    writer.close()
    other = Calls(http, narrow.url, narrow.add_token(subject="other"))
    assert (await other.post("batch", large))[0] == 200


async def test_nobody_holds_room_without_a_token(http: aiohttp.ClientSession, narrow: ApiProcess) -> None:
    calls = Calls(http, narrow.url, narrow.token)
    writers = []
    for _ in range(5):
        reader, writer = await announce(narrow, "guessed")
        writers.append(writer)
        async with asyncio.timeout(30):
            assert b"401" in await reader.readline()
    large = {"items": [{"initiate": declaration("x", b"x")}], "unknown": "x" * SMALL}
    assert (await calls.post("batch", large))[0] == 200
    for writer in writers:
        writer.close()


@pytest.mark.parametrize("encoding", ["gzip", "GZip", "deflate", "br", "zstd", "identity, gzip", "unheard-of"])
async def test_a_compressed_body_is_refused_before_it_comes(shared_api: ApiProcess, encoding: str) -> None:
    headers = "Content-Length: 4096", f"Content-Encoding: {encoding}"
    reader, writer = await announce(shared_api, shared_api.token, *headers)
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"X-Putgate-Code: request_invalid" in head
    writer.close()


async def test_a_body_beyond_the_most_is_refused(http: aiohttp.ClientSession, shared_api: ApiProcess) -> None:
    headers = {"Authorization": f"Bearer {shared_api.token}", "Content-Length": str(4 * MIB + 1)}
    reader, writer = await asyncio.open_connection("127.0.0.1", shared_api.port)
    lines = "\r\n".join(f"{name}: {value}" for name, value in {"Host": "x", **headers}.items())
    writer.write(f"POST /object/batch HTTP/1.1\r\n{lines}\r\n\r\n".encode() + b"x" * (4 * MIB + 1))
    async with asyncio.timeout(30):
        assert b"413" in await reader.readline()
    writer.close()


def test_a_rate_is_a_bucket_that_fills_again() -> None:
    clock, refused = Clock(), list[str]()
    rates = Rates(2, 3, refused.append, clock)
    for _ in range(3):
        rates.admit("a")
    with pytest.raises(Problem) as raised:
        rates.admit("a")
    assert (raised.value.code, raised.value.retry_after) == ("rate_limited", 0.5)
    assert refused == ["rate"]
    rates.admit("b")
    clock.now += 0.5
    rates.admit("a")
    with pytest.raises(Problem):
        rates.admit("a")
    clock.now += 1000
    for _ in range(3):
        rates.admit("a")
    with pytest.raises(Problem):
        rates.admit("a")


def test_only_so_many_callers_are_remembered() -> None:
    rates = Rates(1, 1, lambda _: None, Clock())
    for n in range(MAX_CALLERS + 5):
        rates.admit(str(n))
    assert len(rates._left) == MAX_CALLERS
    # The quietest were forgotten, and begin anew; the latest were not.
    rates.admit("0")
    with pytest.raises(Problem):
        rates.admit(str(MAX_CALLERS + 4))


def test_there_is_room_for_so_many_calls_and_the_wait_grows_with_the_crowd() -> None:
    clock = Clock()
    load = Load(Limits(concurrent_calls=2), Metrics(), clock)
    waits: list[float] = []
    with load.call(), load.call():
        for _ in range(20):
            with pytest.raises(Problem) as raised, load.call():
                pass
            assert raised.value.code == "not_ready"
            waits.append(raised.value.retry_after or 0)
    assert waits[0] >= 1
    assert waits[-1] == 30
    clock.now += 60
    with load.call(), load.call(), pytest.raises(Problem) as later, load.call():
        pass
    assert later.value.retry_after is not None
    assert later.value.retry_after < 30


def test_one_caller_has_half_of_the_room() -> None:
    load = Load(Limits(concurrent_bytes=16 * MIB), Metrics(), Clock())
    with load.call() as first, load.call() as second, load.call() as third:
        first.take("a", 4 * MIB)
        second.take("a", 4 * MIB)
        with pytest.raises(Problem, match="one caller"):
            third.take("a", SMALL + 1)
        third.take("a", SMALL)
        with load.call() as of_other:
            of_other.take("b", 4 * MIB)
    with load.call() as again:
        again.take("a", 4 * MIB)


EMPTY = StoredObject(body=b"", etag="e", sha256="", modified=datetime(2026, 1, 1, tzinfo=UTC), headers=ObjectHeaders())


class Listed(MemoryStore):
    """How often it was listed. A listing waits while `may` is not set."""

    def __init__(self) -> None:
        super().__init__()
        self.lists = 0
        self.listing = asyncio.Event()
        self.may = asyncio.Event()
        self.may.set()

    def keep(self, *names: str) -> None:
        """Among the records of the owner `o`."""
        self.objects |= {f"s/o/{name}": EMPTY for name in names}

    async def list(self, prefix: str, **how: Any) -> Page:
        self.lists += 1
        self.listing.set()
        await self.may.wait()
        return await super().list(prefix, **how)


async def admitted(counts: OpenUploads, store: MemoryStore, calls: int) -> tuple[int, list[float | None]]:
    """How many of so many calls at once may begin an upload, and the waits that the others are asked for."""
    outcomes = await asyncio.gather(*(counts.admit(store, "s/o/", "o") for _ in range(calls)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
    assert {problem.code for problem in refused} <= {"too_many_uploads"}
    assert outcomes.count(None) + len(refused) == calls
    return outcomes.count(None), [problem.retry_after for problem in refused]


async def test_open_uploads_are_counted_anew_after_a_while_also_once_used_up() -> None:
    store, clock = MemoryStore(), Clock()
    counts = OpenUploads(2, clock)
    for name in ("s/o/1.parts", "s/o/1.json", "s/o/2.json", "s/o/2.copies"):
        await store.put_small(name, b"")
    await counts.admit(store, "s/o/", "o")
    await store.put_small("s/o/2.parts", b"")
    with pytest.raises(Problem) as raised:
        await counts.admit(store, "s/o/", "o")
    assert raised.value.code == "too_many_uploads"
    await store.delete("s/o/1.parts")
    await store.delete("s/o/2.parts")
    assert raised.value.retry_after is not None
    clock.now += raised.value.retry_after
    await counts.admit(store, "s/o/", "o")
    # What others begin meanwhile is seen once the count is old.
    await store.put_small("s/o/3.parts", b"")
    await store.put_small("s/o/4.parts", b"")
    await counts.admit(store, "s/o/", "o")
    clock.now += FRESH
    with pytest.raises(Problem):
        await counts.admit(store, "s/o/", "o")


async def test_however_many_are_refused_they_cost_one_count() -> None:
    store, clock = Listed(), Clock()
    counts = OpenUploads(3, clock)
    await store.put_small("s/o/1.parts", b"")
    assert await admitted(counts, store, 1000) == (2, [FRESH] * 998)
    clock.now += FRESH - 2
    assert await admitted(counts, store, 1000) == (0, [2.0] * 1000)
    assert store.lists == 1
    await store.put_small("s/o/2.parts", b"")
    clock.now += 2
    assert await admitted(counts, store, 1000) == (1, [FRESH] * 999)
    assert store.lists == 2


async def test_while_uploads_are_counted_anew_the_last_count_answers() -> None:
    store, clock = Listed(), Clock()
    counts = OpenUploads(5, clock)
    await store.put_small("s/o/1.parts", b"")
    assert (await admitted(counts, store, 1))[0] == 1
    clock.now += FRESH
    store.listing.clear()
    store.may.clear()
    async with asyncio.TaskGroup() as group:
        counting = group.create_task(admitted(counts, store, 1))
        await store.listing.wait()
        assert await admitted(counts, store, 10) == (3, [1.0] * 7)
        assert not counting.done()
        store.may.set()
    # Of the five one is stored, and three were begun while it was counted.
    assert (counting.result()[0], await admitted(counts, store, 1)) == (1, (0, [FRESH]))
    assert store.lists == 2


async def test_a_count_of_long_ago_refuses_nobody() -> None:
    store, clock = Listed(), Clock()
    counts = OpenUploads(2, clock)
    for name in ("1.parts", "2.parts"):
        store.keep(name)
    assert (await admitted(counts, store, 1))[0] == 0
    store.objects.clear()
    clock.now += FRESH + KEPT
    store.listing.clear()
    store.may.clear()
    async with asyncio.TaskGroup() as group:
        both = group.create_task(admitted(counts, store, 2))
        await store.listing.wait()
        store.may.set()
    assert both.result() == (2, [])
    assert store.lists == 2


@pytest.mark.parametrize(
    ("most", "begun", "ended", "admits"),
    [
        (10_000, 9_500, 5_000, True),
        (10_000, 10_500, 5_000, False),
        (5_000, 4_500, 40_000, True),
        (5_000, 5_500, 40_000, False),
    ],
)
async def test_a_limit_holds_for_owners_of_more_records_than_are_read(
    most: int, begun: int, ended: int, *, admits: bool
) -> None:
    store = Listed()
    for number in range(begun + ended):
        session = f"{key_mark(str(number))}-{number}"
        store.keep(f"{session}.json", *([f"{session}.parts"] if number < begun else []))
    assert (await admitted(OpenUploads(most, Clock()), store, 1))[0] == admits
    assert store.lists <= MAX_PAGES


async def test_many_uploads_of_one_file_say_nothing_of_the_files_that_are_not_read() -> None:
    store = Listed()
    first = min(key_mark(str(number)) for number in range(100_000))
    for number in range(100_000):
        store.keep(f"{key_mark(str(number))}-{number}.json")
    for number in range(1_500):
        store.keep(f"{first}-of-one-{number}.json", f"{first}-of-one-{number}.parts")
    assert (await admitted(OpenUploads(5_000, Clock()), store, 5_000))[0] in range(3_400, 3_501)
    assert store.lists == MAX_PAGES


async def test_what_is_no_record_counts_as_none() -> None:
    store = Listed()
    store.keep(*(f"~{number:06}" for number in range(1000 * MAX_PAGES + 1)))
    assert (await admitted(OpenUploads(2, Clock()), store, 3))[0] == 2


def test_limits_must_make_sense() -> None:
    for wrong in ({"concurrent_bytes": "1Mi"}, {"store_calls": 0}, {"store_timeout": "0s"}, {"body_timeout": "1h"}):
        with pytest.raises(ValueError):
            Limits.model_validate(wrong)


async def test_a_batch_is_one_call_whatever_it_holds(http: aiohttp.ClientSession, narrow: ApiProcess) -> None:
    calls = Calls(http, narrow.url, narrow.token)
    items = [{"initiate": declaration(f"b/{n}", b"x")} for n in range(100)]
    status, answer = await calls.post("batch", {"items": items})
    assert status == 200
    assert all(result["status"] == 200 for result in answer["results"])
