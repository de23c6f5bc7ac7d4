"""The published names, at a real API and store: each is uploaded, found under its path, listed, and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl

from putgate_protocol.names import MAX_KEY_BYTES, Name
from tests.api.calls import Calls
from tests.servers.api import ApiProcess

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[3] / "docs" / "vectors.json").read_text())


@pytest.mark.slow
async def test_every_published_name_works_under_its_path(
    calls: Calls, http: aiohttp.ClientSession, own_api: ApiProcess
) -> None:
    async def fetched(path: str) -> bytes:
        url = yarl.URL(calls.url + path, encoded=True)
        async with http.get(url, headers=calls.headers, allow_redirects=False) as answer:
            assert answer.status == 302, path
        async with http.get(yarl.URL(answer.headers["Location"], encoded=True)) as answer:
            return await answer.read()

    for at, vector in enumerate(VECTORS["paths"]):
        name = Name.from_wire(vector.get("name"), vector.get("name_b64"))
        if len(own_api.prefix + name.encoded) > MAX_KEY_BYTES:
            continue
        data = b"content %d" % at
        file = await calls.upload(name.raw, data)
        assert file["url"] == calls.url + vector["path"]
        assert Name.from_wire(file.get("name"), file.get("name_b64")) == name
        assert await fetched(vector["path"]) == data
        slashes = vector["path"].removeprefix("/files/").replace("/", "%2F")
        assert await fetched(f"/files/{slashes}") == data
        assert (await calls.file("DELETE", name.raw))[0] == 204


async def test_every_published_name_that_is_none_is_refused_with_its_code(calls: Calls) -> None:
    for vector in VECTORS["bad_names"]:
        if vector["prefix"]:
            continue
        named = {key: vector[key] for key in ("name", "name_b64") if key in vector}
        status, body = await calls.post("access_url", named)
        assert (status, body["code"]) == (400, vector["code"]), vector
