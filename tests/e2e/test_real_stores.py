"""The main ways on every real store, with the same programs: what a store cannot do is found out and done without.

Nothing here asks which store it is: what is expected follows from what the API says of it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from putgate import BytesSource, Client, Failed, Job, Name
from putgate_api.records.keys import RecordKeys
from putgate_protocol.messages.part_limit import PartLimitAnswer
from putgate_storage.probe.report import ProbeReport
from tests.client.stack import MIB, Stack, a_stack  # noqa: F401
from tests.daemon import program
from tests.e2e.test_client_crash import PART, aged, killed_in_the_middle, part_put, stored
from tests.servers.api import ApiProcess
from tests.servers.proxy import StoreProxy
from tests.servers.proxy_calls import api_kind
from tests.servers.proxy_faults import Answer
from tests.servers.s3 import S3Server
from tests.servers.seaweedfs import SeaweedFS

pytestmark = pytest.mark.slow

STORES = ("seaweedfs", "minio", "ceph")


@pytest.fixture(scope="module", name="server", params=STORES)
def a_server(request: pytest.FixtureRequest) -> SeaweedFS | S3Server:
    server = request.getfixturevalue(request.param)
    assert isinstance(server, SeaweedFS | S3Server)
    return server


@pytest.fixture(scope="module", name="servers")
def the_servers_of_a_store(
    tmp_path_factory: pytest.TempPathFactory, server: SeaweedFS | S3Server
) -> Iterator[tuple[ApiProcess, StoreProxy, StoreProxy]]:
    with StoreProxy(server.endpoint) as store:
        prefix = f"t-{secrets.token_hex(6)}/"
        api = ApiProcess(tmp_path_factory.mktemp("api"), server, prefix=prefix, endpoint=store.url)
        try:
            api.start()
            with StoreProxy(api.url, classify=api_kind) as calls:
                yield api, store, calls
        finally:
            api.kill()


async def limit_of(client: Client) -> PartLimitAnswer:
    return await client._use().wire.part_limit()


def probed(stack: Stack) -> ProbeReport:
    """What the API has seen of its store."""
    s3 = stack.api.store.client()
    try:
        key = RecordKeys(stack.api.prefix).probe
        record = json.loads(s3.get_object(Bucket=stack.api.store.bucket, Key=key)["Body"].read())
    finally:
        s3.close()
    return ProbeReport.from_json(record["report"])


@pytest.mark.parametrize("size", [0, 1000, PART, 2 * PART + 1])
async def test_what_goes_up_comes_down(stack: Stack, size: int) -> None:
    path, name = stack.file(size), stack.prefix + "file"
    async with stack.client() as client:
        limit, report = await limit_of(client), probed(stack)
        assert limit.requires_md5 == (report.tier == "md5")
        assert (limit.put_max_size > 0) == report.commit_by_put
        first = await client.upload(path, name)
        by_put = 0 < size <= limit.put_max_size
        assert first.how == ("exists" if size == 0 else "put" if by_put else "complete")
        assert first.sent_bytes == size == stack.store.put_body_bytes
        await client.download(name, stack.folder / "out")
        assert (stack.folder / "out").read_bytes() == path.read_bytes()
        assert (await client.upload(path, name)).how == "exists"
        assert stack.store.put_body_bytes == size
        assert [file.name async for file in client.list(stack.prefix)] == [name]
        await client.delete(name)
        assert [file async for file in client.list(stack.prefix)] == []


async def test_known_content_is_sent_only_where_the_store_cannot_copy_it(stack: Stack) -> None:
    path = stack.file(2 * PART + 1)
    async with stack.client() as client:
        await client.upload(path, stack.prefix + "first")
        stack.store.reset()
        again = await client.upload(path, stack.prefix + "second")
        assert again.sent_bytes == stack.store.put_body_bytes == (0 if probed(stack).part_copy else 2 * PART + 1)
        await client.download(stack.prefix + "second", stack.folder / "out")
    assert (stack.folder / "out").read_bytes() == path.read_bytes()


async def test_killed_in_the_middle_and_gone_on_with(stack: Stack) -> None:
    path, name = aged(stack.file(25 * PART)), stack.prefix + "big"
    # A fast store would have it all before the kill.
    stack.store.rule(lambda call: part_put(call) and call.part_number > 12, Answer(status=503))
    killed_in_the_middle(stack, path, name)
    stack.store.heal()
    held = {call.part_number for call in stack.store.requests if stored(call)}
    assert held == set(range(1, 13))
    (state,) = (stack.folder / "state" / "putgate" / "uploads").iterdir()
    needs_md5 = probed(stack).tier == "md5"
    assert len(json.loads(state.read_text())["part_md5s"]) == (25 * 32 if needs_md5 else 0)
    stack.store.reset()
    done = stack.run("upload", path, "--to", name)
    assert done.returncode == 0, done.stderr
    assert {call.part_number for call in stack.store.requests if stored(call)} == set(range(1, 26)) - held
    assert stack.run("download", name, stack.folder / "out").returncode == 0
    assert (stack.folder / "out").read_bytes() == path.read_bytes()


async def test_many_files_together(stack: Stack) -> None:
    content = {f"{stack.prefix}{number:03}": secrets.token_bytes(100 + number) for number in range(60)}
    async with stack.client() as client:
        outcomes = [outcome async for outcome in client.engine().upload_many(jobs(content))]
        assert [outcome for outcome in outcomes if isinstance(outcome, Failed)] == []
        assert len(outcomes) == len([file async for file in client.list(stack.prefix)]) == 60


async def test_a_client_that_does_not_know_yet_what_the_store_needs_learns_it(stack: Stack) -> None:
    """Its limits are from before the store was found to check MD5s only."""
    large, content = stack.file(2 * PART + 1), {f"{stack.prefix}{number}": b"%d" % number for number in range(3)}
    async with stack.client() as client:
        wire = client._use().wire
        for upload in ("one", "large", "many"):
            wire._limit = (await limit_of(client)).model_copy(update={"requires_md5": False})
            if upload == "many":
                outcomes = [outcome async for outcome in client.engine().upload_many(jobs(content))]
                assert [outcome for outcome in outcomes if isinstance(outcome, Failed)] == []
            else:
                await client.upload(large if upload == "large" else b"small", stack.prefix + upload)
        wire.forget_limit()
        assert len([file async for file in client.list(stack.prefix)]) == 5


async def jobs(content: dict[str, bytes]) -> AsyncIterator[Job]:
    for name, data in content.items():
        yield Job(name=Name(name.encode()), source=BytesSource(data))


def test_a_daemon_sends_its_folder_and_goes_on_after_a_kill(
    tmp_path: Path, server: SeaweedFS | S3Server, prefix: str
) -> None:
    with program.stack(tmp_path, server, prefix) as home:
        home.settings["folders"][0]["settle"] = "200ms"
        program.fill(home.folder / "tree", 40, folders=4, size=100)
        (home.folder / "large").write_bytes(secrets.token_bytes(20 * MIB))
        home.daemon("run").wait_for("uploaded", 41)
        home.assert_identical()
        home.daemons[-1].kill()
        new, changed = b"came while nobody looked", secrets.token_bytes(20 * MIB)
        (home.folder / "while-away").write_bytes(new)
        (home.folder / "large").write_bytes(changed)
        home.reset()
        home.daemon("run")
        home.wait_content("in/while-away", new)
        home.wait_content("in/large", changed)
        home.assert_identical()
        assert home.to_store.put_body_bytes == len(changed) + len(new)
        assert home.open_uploads() == []
