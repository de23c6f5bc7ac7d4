"""Credentials that change under load, and what several replicas share of one probe: real processes, a real store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from putgate_protocol.report import Report
from tests.api.calls import Calls
from tests.api.in_cluster import condition, give_credentials, in_cluster, readyz, report_of, until_ready, until_report
from tests.api.keyed_store import SECOND, KeyedSeaweedFS, keyed_seaweedfs
from tests.api.waiting import until
from tests.servers.api import ApiProcess
from tests.servers.proxy import StoreProxy, running
from tests.servers.proxy_calls import Call

pytestmark = pytest.mark.slow

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedSeaweedFS]:
    with keyed_seaweedfs(tmp_path_factory.mktemp("keyed")) as server:
        yield server


@pytest.fixture
def proxy(keyed: KeyedSeaweedFS) -> Iterator[StoreProxy]:
    with running(keyed.endpoint) as made:
        yield made


@pytest.fixture
def api(tmp_path: Path, keyed: KeyedSeaweedFS, prefix: str, proxy: StoreProxy) -> Iterator[ApiProcess]:
    process = in_cluster(ApiProcess(tmp_path / "api", keyed, prefix=prefix, endpoint=proxy.url))
    yield process
    process.kill()


def key_of(call: Call) -> str:
    """The access key id that a call was signed with."""
    signed = call.head.query.get("X-Amz-Credential") or call.head.headers.get("authorization", "").partition("=")[2]
    return signed.split("/")[0]


def of_probe(call: Call) -> bool:
    return b".putgate/v1/probe/" in call.key


async def test_a_rotation_under_load_fails_no_upload(
    api: ApiProcess, http: aiohttp.ClientSession, proxy: StoreProxy, keyed: KeyedSeaweedFS
) -> None:
    await asyncio.to_thread(api.start)
    calls = Calls(http, api.url, api.token)
    files, used = 0, {keyed.access_key}
    ended = asyncio.Event()

    async def upload(worker: int) -> None:
        nonlocal files
        while not ended.is_set():
            size = 9 * MIB if worker == 0 else 1000
            await calls.upload(f"{worker}/{files}", os.urandom(size))
            files += 1

    async with asyncio.TaskGroup() as group:
        for worker in range(4):
            group.create_task(upload(worker))
        for pair in (SECOND, (keyed.access_key, keyed.secret_key), SECOND):
            seen, proxy_calls = files, proxy.total
            give_credentials(api, *pair)
            await until(
                lambda: asyncio.to_thread(lambda: {key_of(call) for call in proxy.requests[-20:]}),
                {pair[0]}.__eq__,
            )
            await until(lambda: asyncio.sleep(0, files), (seen + 10).__le__)
            used.add(pair[0])
            assert proxy.total > proxy_calls
        ended.set()
    refused = [(call.kind, call.status) for call in proxy.requests if call.status in (401, 403) and not of_probe(call)]
    assert refused == []
    assert used == {keyed.access_key, SECOND[0]}
    report = await asyncio.to_thread(until_ready, api)
    assert condition(report, "CredentialsValid").status == "True"


def test_replicas_adopt_one_anothers_probe(
    tmp_path: Path, api: ApiProcess, keyed: KeyedSeaweedFS, prefix: str, proxy: StoreProxy
) -> None:
    def started(process: ApiProcess) -> tuple[Report, int]:
        """Its report, and how many of its calls probed."""
        proxy.reset()
        try:
            process.start()
            return until_ready(process), sum(map(of_probe, proxy.requests))
        finally:
            process.kill()

    def replica(name: str) -> ApiProcess:
        return in_cluster(ApiProcess(tmp_path / name, keyed, prefix=prefix, endpoint=proxy.url))

    first, probes = started(api)
    assert probes > 0
    second, probes = started(replica("second"))
    assert probes == 0
    assert second.integrity == first.integrity, "when it was probed is told, too"
    assert second.capabilities == first.capabilities
    assert proxy.total < 20
    third = replica("third")
    give_credentials(third, *SECOND)
    newer, probes = started(third)
    assert probes > 0, "other credentials may see another store"
    fourth = replica("fourth")
    give_credentials(fourth, *SECOND)
    adopted, probes = started(fourth)
    assert probes == 0
    assert adopted.integrity == newer.integrity


def test_a_store_that_is_away_for_a_while_takes_no_readiness(api: ApiProcess, proxy: StoreProxy) -> None:
    api.start()
    until_ready(api)
    proxy.set_down(True)
    # A new key makes it look at once, and find nobody.
    give_credentials(api, *SECOND)
    until_report(api, lambda _: "no answer to another probe" in api.log.read_text())
    assert readyz(api)[0] == 200
    assert report_of(api).state == "Ready"
    proxy.set_down(False)
