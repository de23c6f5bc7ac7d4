"""No attack makes a file of Putgate whose content differs from what was authorised, on each real store.

What stops each attack is written down in docs/security.md, and compared with it: `PUTGATE_WRITE_ATTACKS=1` writes
the columns of the stores that run.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import aiohttp
import pytest

from tests.api.calls import Calls
from tests.attacks import table
from tests.attacks.attacks import ATTACKS, Attack
from tests.attacks.stage import NotOffered, Stage
from tests.servers.api import ApiProcess

STORES = {"SeaweedFS": "seaweedfs", "MinIO": "minio", "Ceph": "ceph"}

pytestmark = pytest.mark.slow


@pytest.fixture(name="attacked", scope="module", params=STORES)
def an_attacked_api(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, ApiProcess]]:
    store = request.getfixturevalue(STORES[request.param])
    process = ApiProcess(tmp_path_factory.mktemp("api"), store, prefix=f"attacked-{secrets.token_hex(4)}/")
    try:
        yield request.param, process.start()
    finally:
        process.kill()


async def test_no_attack_makes_a_file_of_other_content(
    attacked: tuple[str, ApiProcess], http: aiohttp.ClientSession
) -> None:
    store, api = attacked
    calls = Calls(http, api.url, api.token)
    column = {}
    for way, attacks in ATTACKS.items():
        for what, attack in attacks.items():
            column[f"{way}: {what}"] = await _outcome(Stage(api=api, calls=calls, way=way), attack)
    text = table.PAGE.read_text()
    told = table.read(text)
    if os.environ.get("PUTGATE_WRITE_ATTACKS") == "1":
        table.PAGE.write_text(table.written(text, table.with_column(told, store, column), tuple(STORES)))
    else:
        assert column == {attack: cells[store] for attack, cells in told.items()}


async def _outcome(stage: Stage, attack: Attack) -> str:
    await stage.prepare()
    try:
        upload = await stage.declare()
    except NotOffered:
        return "not offered"
    try:
        status = await attack(stage, upload)
    except aiohttp.ServerDisconnectedError:
        status = 0
    await stage.check()
    ends = [await stage.complete(each) for each in reversed(stage.uploads)]
    await stage.check()
    if not 200 <= status < 300:
        return f"store refuses ({status})" if status else "store refuses (hangs up)"
    refused = next((code for code, _ in ends if code >= 400), None)
    return "no effect" if refused is None else f"complete refuses ({refused})"


@pytest.mark.parametrize("attacked", ["Ceph"], indirect=True)
async def test_where_sha256_is_ignored_complete_looks_for_itself(
    attacked: tuple[str, ApiProcess], http: aiohttp.ClientSession
) -> None:
    """No request that was signed got other bytes in, so the store's own owner puts them there."""
    _, api = attacked
    calls = Calls(http, api.url, api.token)
    stage = Stage(api=api, calls=calls, way="UploadPart")
    await stage.prepare()
    upload = await stage.declare()
    assert await stage.send(upload) == 200
    other = os.urandom(len(upload.data))
    client = api.store.client()
    try:
        where = {"Bucket": api.store.bucket, "Key": api.prefix + upload.name}
        [opened] = client.list_multipart_uploads(Bucket=where["Bucket"], Prefix=where["Key"])["Uploads"]
        client.upload_part(**where, UploadId=opened["UploadId"], PartNumber=1, Body=other)
    finally:
        client.close()
    assert await stage.complete(upload) == (409, "parts_missing")
    await stage.check()
    assert (await calls.file("HEAD", upload.name))[0] == 404
    assert await stage.send(upload) == 200
    assert await stage.complete(upload) == (200, "complete")
    assert await calls.download(upload.name) == upload.data


def test_the_table_is_found_and_written_as_it_is_read() -> None:
    text = f"before\n{table.BEGIN}\n{table.END}\nafter"
    rows = table.with_column(table.read(text), "Ceph", {"a": "1", "b": "2"})
    rows = table.with_column(rows, "MinIO", {"a": "3", "b": "4"})
    page = table.written(text, rows, ("MinIO", "Ceph"))
    assert table.read(page) == {"a": {"MinIO": "3", "Ceph": "1"}, "b": {"MinIO": "4", "Ceph": "2"}}
    assert page.startswith("before\n")
    assert page.endswith("\nafter")
    with pytest.raises(ValueError, match="no single"):
        table.read("no table")
