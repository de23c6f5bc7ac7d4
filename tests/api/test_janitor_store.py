"""Housekeeping on a real store: after processes that were killed, beside uploads that go on, in a serving process."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from putgate_api.housekeeping.janitor import Janitor
from putgate_api.housekeeping.tally import Tally
from putgate_api.uploads.bucket import Bucket
from putgate_protocol.messages.initiate import Upload
from putgate_protocol.problems import Problem
from putgate_storage.s3.driver import S3Store
from putgate_storage.store import Head, ObjectHeaders, Small
from putgate_storage.wrap.retry import retrying
from tests.api.calls import Calls
from tests.api.leftovers import settings
from tests.api.state import state_of, store_of
from tests.api.store_bucket import MULTIPART, begin, finish, store_bucket
from tests.api.test_program import fetch, run, written
from tests.api.waiting import until
from tests.servers.api import ApiProcess
from tests.servers.proxy import StoreProxy, When
from tests.servers.proxy_calls import Call, Predicate, kind, nth
from tests.servers.seaweedfs import SeaweedFS

DATA = os.urandom(8 * 1024 * 1024 + 1000)


class Later(S3Store):
    """The same store some time later. `ages`: also as if nothing had been written in all that time."""

    def __init__(self, store: S3Store, by: timedelta, *, ages: bool) -> None:
        self.__dict__.update(store.__dict__)
        self._by = by
        self._ages = by if ages else timedelta()

    def now(self):  # type: ignore[no-untyped-def]
        return super().now() + self._by

    async def head(self, key: str) -> Head | None:
        found = await super().head(key)
        return None if found is None else replace(found, date=found.date + self._ages)

    async def get_small(self, key: str, max_bytes: int) -> Small | None:
        found = await super().get_small(key, max_bytes)
        return None if found is None else replace(found, date=found.date + self._ages)


async def round_later(store: S3Store, prefix: str, by: timedelta) -> Tally:
    """What a janitor does some time later, everybody else gone."""
    tally = Tally()
    served = store_bucket(Later(store, by, ages=True), prefix)
    await Janitor(settings(), lambda: served).round(served, tally)
    return tally


def own_keys(keys: list[str]) -> list[str]:
    """Without what a bucket has for its whole life."""
    lasting = ("bucket.json", "probe.json")
    return [key for key in keys if not key.endswith(lasting)]


# --- after processes that were killed ---


@pytest.fixture
async def behind_proxy(
    tmp_path: Path, seaweedfs: SeaweedFS, prefix: str, store_proxy: StoreProxy
) -> AsyncIterator[ApiProcess]:
    api = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix, endpoint=store_proxy.url)
    api.settings["janitor"] = {"enabled": False}
    yield api
    api.kill()


def own_calls(name: str) -> Predicate:
    def matches(call: Call) -> bool:
        return not call.presigned and (name.encode() in call.key or b".putgate/v1/sessions/" in call.key)

    return matches


async def upload_until_killed(calls: Calls, name: str) -> None:
    with pytest.raises(aiohttp.ClientError):
        await calls.upload(name, name.encode(), recheck=MULTIPART)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_an_api_leaves_that_is_killed_at_any_point_goes(
    behind_proxy: ApiProcess, store_proxy: StoreProxy, http: aiohttp.ClientSession, when: When
) -> None:
    api = await asyncio.to_thread(behind_proxy.start)
    calls = Calls(http, api.url, api.token)
    store_proxy.reset()
    await calls.upload("undisturbed", b"undisturbed", recheck=MULTIPART)
    points = sum(map(own_calls("undisturbed"), store_proxy.requests))
    assert points > 10
    names = [f"killed-{at:02}" for at in range(1, points + 1)]
    for at, name in enumerate(names, 1):
        store_proxy.on(nth(at, own_calls(name)), lambda _: api.kill(), when=when, times=1)
        await upload_until_killed(calls, name)
        store_proxy.heal()
        await asyncio.to_thread(api.start)
    # One that nobody kills, in the middle of its parts.
    status, answer = await calls.initiate("given-up", DATA)
    assert status == 200
    assert await calls.send(answer["parts"][0], DATA[: 8 * 1024 * 1024]) == 200
    await asyncio.to_thread(api.kill)
    async with store_of(api) as store:
        left = await state_of(store, api.prefix)
        files = left.names(api.prefix)
        assert len(left.uploads) > 5
        assert len(own_keys([key for key, _ in left.keys])) > len(files) + 10
        tally = await round_later(store, api.prefix, timedelta(days=8))
        assert tally.counts["failed"] == tally.counts["put_off"] == 0
        for what in ("expired_uploads", "unopened_sessions", "done_sessions", "finished_uploads", "lone_parts"):
            assert tally.counts[what] > 0, f"{what} of {tally.changed}"
        # What was found to be published was noted, and is old enough for the next.
        await round_later(store, api.prefix, timedelta(days=16))
        after = await state_of(store, api.prefix)
        assert after.uploads == ()
        assert after.names(api.prefix) == files
        assert own_keys([key for key, _ in after.keys]) == [api.prefix + name for name in files]
        for name in files:
            found = await store.get_small(api.prefix + name, 100)
            assert found is not None
            assert found.body == name.encode()


async def test_what_a_probe_leaves_that_is_killed_goes(behind_proxy: ApiProcess, store_proxy: StoreProxy) -> None:
    api = behind_proxy

    def of_probe(call: Call) -> bool:
        return b".putgate/v1/probe/" in call.key and call.kind == "CompleteMultipartUpload"

    store_proxy.on(nth(3, of_probe), lambda _: api.kill(), when="after", times=1)
    api.start(wait=False)
    assert api.process is not None
    await asyncio.to_thread(api.process.wait, 120)
    async with store_of(api) as store:
        left = await state_of(store, api.prefix)
        assert left.uploads != ()
        assert left.keys != ()
        assert (await round_later(store, api.prefix, timedelta(minutes=50))).changed == {}
        tally = await round_later(store, api.prefix, timedelta(hours=2))
        assert tally.changed == {"probe_objects": len(left.keys), "probe_uploads": len(left.uploads)}
        after = await state_of(store, api.prefix)
        assert (after.keys, after.uploads) == ((), ())


async def test_strays_go_and_what_lies_beside_them_stays(own_api: ApiProcess, store: S3Store, prefix: str) -> None:
    """A bucket is shared: by another prefix, whose name begins the same, and by other tools within ours."""
    beside = f"{prefix.removesuffix('/')}-b/"
    stray = await store.create_upload(f"{prefix}folder/stray", ObjectHeaders())
    foreign = await store.create_upload(f"{beside}x", ObjectHeaders())
    record = await store.create_upload(f"{prefix}.putgate/v2/x", ObjectHeaders())
    await store.put_small(f"{prefix}file", b"another tool's")
    assert (await round_later(store, prefix, timedelta(days=6))).changed == {}
    assert (await round_later(store, prefix, timedelta(days=8))).changed == {"stray_uploads": 1}
    assert await store.list_parts(stray) is None
    assert await store.list_parts(foreign) == []
    assert await store.list_parts(record) == []
    assert (await state_of(store, prefix)).names(prefix) == ["file"]
    for upload in (foreign, record):
        await store.abort(upload)


# --- beside uploads that go on ---


@pytest.mark.slow
async def test_two_at_work_beside_uploads_lose_nothing(
    own_api: ApiProcess, store: S3Store, prefix: str, http: aiohttp.ClientSession
) -> None:
    before = store_bucket(retrying(store), prefix)
    client = Calls(http, "", None)
    for at in range(20):
        await _begun(before, f"left-{at}", f"left-{at}".encode())
        await store.create_upload(f"{prefix}stray-{at}", ObjectHeaders())
        await store.put_small(f"{prefix}.putgate/v1/probe/{at}", b"x")
    # From here on it is eight days later for all: for clients and API as well.
    now = store_bucket(retrying(Later(store, timedelta(days=8), ages=False)), prefix)
    ended = asyncio.Event()
    contents = {f"live-{at:02}": os.urandom(1000 + at) for at in range(40)}
    contents |= {f"left-{at}": f"left-{at}".encode() for at in range(0, 20, 4)}

    async def clean() -> Tally:
        tally = Tally()
        janitor = Janitor(settings(), lambda: now)
        while True:
            last = ended.is_set()
            await janitor.round(now, tally)
            if last:
                return tally

    async def upload(name: str, data: bytes) -> None:
        await finish(now, client, await _begun(now, name, data), data)

    async with asyncio.TaskGroup() as group:
        janitors = [group.create_task(clean()) for _ in range(2)]
        slots = asyncio.Semaphore(3)

        async def one(name: str, data: bytes) -> None:
            async with slots:
                await upload(name, data)

        await asyncio.gather(*(one(name, data) for name, data in contents.items()))
        ended.set()
    state = await state_of(store, prefix)
    assert state.uploads == ()
    assert state.names(prefix) == sorted(contents)
    assert not any("/probe/" in key for key, _ in state.keys)
    for name, data in contents.items():
        found = await store.get_small(prefix + name, 2000)
        assert found is not None
        assert found.body == data
    counts = janitors[0].result().counts + janitors[1].result().counts
    assert counts["failed"] == 0
    assert counts["stray_uploads"] >= 20
    assert counts["expired_uploads"] >= 15


async def _begun(served: Bucket, name: str, data: bytes) -> Upload:
    """Initiate, again while somebody else has just this file in hand."""
    while True:
        try:
            answer = await begin(served, name, data)
        except Problem as problem:
            if problem.code != "upload_busy":
                raise
            await asyncio.sleep(0.1)
            continue
        assert isinstance(answer, Upload)
        return answer


# --- as a program ---


async def expire(store: S3Store, prefix: str) -> None:
    """Let every session have ended an hour ago."""
    for entry in (await store.list(f"{prefix}.putgate/v1/sessions/")).entries:
        if entry.key.endswith(".json"):
            found = await store.get_small(entry.key, 10_000)
            assert found is not None
            tree: dict[str, Any] = json.loads(found.body)
            ended = found.date.timestamp() - 3600
            await store.put_small(entry.key, json.dumps(tree | {"expires": ended}).encode())


@pytest.mark.slow
async def test_a_serving_process_cleans_up_and_drains(
    http: aiohttp.ClientSession, tmp_path: Path, seaweedfs: SeaweedFS, prefix: str
) -> None:
    api = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix)
    api.settings["janitor"] = {"period": "1s", "calls_per_second": 100}
    await asyncio.to_thread(api.start_probed)
    calls = Calls(http, api.url, api.token)
    async with store_of(api) as store:
        await calls.initiate("left", b"left", recheck=MULTIPART)
        await expire(store, prefix)
        status, live = await calls.initiate("live", b"live", recheck=MULTIPART)
        assert status == 200
        await until(lambda: state_of(store, prefix), lambda state: len(state.uploads) == 1)
        await until(
            lambda: asyncio.to_thread(fetch, f"{api.admin_url}/metrics"),
            lambda found: 'putgate_api_housekeeping_total{what="expired_uploads"} 1.0' in found[1],
        )
        assert await calls.put_parts(live, b"live") == [200]
        status, _ = await calls.post("complete_multipart_upload", {"upload_id": live["upload_id"]})
        assert status == 200
        assert await calls.download("live") == b"live"
        assert await asyncio.to_thread(api.stop) == 0
        assert '"error"' not in api.log.read_text()
        assert "Traceback" not in api.log.read_text()


@pytest.mark.slow
async def test_a_drain_does_not_wait_for_it(
    tmp_path: Path, seaweedfs: SeaweedFS, prefix: str, store_proxy: StoreProxy
) -> None:
    """It is in the middle of a call that takes the store for ever."""
    api = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix, endpoint=store_proxy.url)
    await asyncio.to_thread(api.start_probed)
    await asyncio.to_thread(api.kill)
    # The probe, which lists uploads too, is not repeated.
    api.settings["janitor"] = {"period": "1s", "calls_per_second": 100}
    store_proxy.reset()
    ended = threading.Event()
    store_proxy.on(kind("ListUploads"), lambda _: ended.wait(120))
    try:
        await asyncio.to_thread(api.start)
        await asyncio.to_thread(store_proxy.wait_until, lambda proxy: proxy.counts["ListUploads"] > 0)
        assert await asyncio.to_thread(api.stop, 60) == 0
    finally:
        ended.set()
        api.kill()
    assert "Traceback" not in api.log.read_text()


@pytest.mark.slow
async def test_one_round_by_the_command(
    http: aiohttp.ClientSession, tmp_path: Path, seaweedfs: SeaweedFS, prefix: str
) -> None:
    api = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix)
    config = written(api)

    def janitor(*options: str) -> tuple[int, str, str]:
        done = run("janitor", "--config", config, *options)
        return done.returncode, done.stdout, done.stderr

    code, said, _ = await asyncio.to_thread(janitor, "--once")
    assert (code, said) == (0, "nothing to clean up\n"), "nobody has ever served this prefix"
    await asyncio.to_thread(api.start)
    calls = Calls(http, api.url, api.token)
    async with store_of(api) as store:
        await calls.initiate("left", b"left", recheck=MULTIPART)
        await expire(store, prefix)
        await calls.initiate("live", b"live", recheck=MULTIPART)
        await asyncio.to_thread(api.kill)
        code, said, _ = await asyncio.to_thread(janitor, "--once", "--json")
        counts = json.loads(said)
        assert (code, counts.pop("expired_uploads")) == (0, 1)
        assert set(counts.values()) == {0}
        code, said, _ = await asyncio.to_thread(janitor, "--once")
        assert (code, said) == (0, "nothing to clean up\n")
        assert len((await state_of(store, prefix)).uploads) == 1
        await expire(store, prefix)
        code, said, _ = await asyncio.to_thread(janitor, "--once")
        assert (code, said) == (0, "       1  uploads whose session had expired, removed\n")
    code, _, told = await asyncio.to_thread(janitor)
    assert (code, "--once" in told) == (2, True)


@pytest.mark.slow
async def test_the_command_leaves_a_bucket_that_somebody_else_has_claimed(
    tmp_path: Path, seaweedfs: SeaweedFS, prefix: str
) -> None:
    api = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix)
    api.settings["storage"]["claimant"] = {"namespace_uid": "n1", "namespace": "apps", "name": "first"}
    await asyncio.to_thread(api.start)
    await asyncio.to_thread(api.kill)
    api.settings["storage"]["claimant"]["name"] = "second"
    done = await asyncio.to_thread(run, "janitor", "--once", "--config", written(api))
    assert (done.returncode, "claimed by apps/first" in done.stderr, done.stdout) == (3, True, "")
    api.settings["storage"]["s3"]["bucket"] = "putgate-absent"
    done = await asyncio.to_thread(run, "janitor", "--once", "--config", written(api))
    assert (done.returncode, "there is no bucket putgate-absent" in done.stderr, done.stdout) == (4, True, "")
