"""What known content does and does not tell: nothing at all to who may not have it, and a gigabyte saved to who may."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest

from putgate import Client
from tests.api.calls import Calls, declaration
from tests.client.stack import MIB, Stack, a_stack, the_servers  # noqa: F401
from tests.servers.proxy_calls import Call

PART = 8 * MIB
LARGE = 128 * PART


def digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@pytest.mark.slow
async def test_a_gigabyte_is_not_sent_again(stack: Stack) -> None:
    """Under another name, with one part changed, and grown by one per cent."""
    path = stack.file(LARGE)
    back = stack.folder / "back"
    first, second = stack.prefix + "first", stack.prefix + "second"
    async with stack.client() as client:
        await client.upload(path, first)
        stack.store.reset()
        duplicate = await client.upload(path, second)
        assert (duplicate.how, duplicate.sent_bytes, stack.store.put_body_bytes) == ("exists", 0, 0)
        await client.download(second, back)
        assert digest(back) == digest(path)

        with path.open("r+b") as file:
            file.seek(LARGE // 2 + 77)
            file.write(os.urandom(1000))
        await client.upload(path, first)
        assert stack.store.put_body_bytes == PART
        await client.download(first, back)
        assert digest(back) == digest(path)

        stack.store.reset()
        with path.open("ab") as file:
            file.write(os.urandom(LARGE // 100))
        await client.upload(path, first)
        assert stack.store.put_body_bytes == LARGE // 100 <= 2 * PART
        await client.download(first, back)
        assert digest(back) == digest(path)
    assert stack.open_uploads() == []


_OF_EACH = {
    *("upload_id", "file_hash", "version", "expires_at", "modified", "name", "x-amz-checksum-sha256"),
    *("x-amz-meta-putgate-hash", "x-amz-meta-putgate-upload", "x-amz-meta-putgate-owner"),
}
_CHANCE = {"date", "x-request-id"}


def shape(value: Any, at: str = "") -> Any:
    """An answer without what chance and time decide; of those, how long they are, and of what a URL is made."""
    match value:
        case dict():
            return {key: shape(inner, key) for key, inner in value.items()}
        case list():
            return [shape(inner, at) for inner in value]
        case str() if value.startswith("http://"):
            url = urlsplit(value)
            return [url.netloc, len(url.path), [(name, len(found)) for name, found in parse_qsl(url.query)]]
        case str() if at in _OF_EACH:
            return len(value)
        case int() | float() if at == "expires_in":
            return "seconds"
        case _:
            return value


@dataclass
class Seen:
    """All that a caller gets to see, and what it made the API ask of the store."""

    answers: list[Any] = field(default_factory=list)
    store_calls: list[Counter[str]] = field(default_factory=list)


class Stranger:
    """Uploads as anybody may who speaks HTTP, and writes down every answer."""

    def __init__(self, http: aiohttp.ClientSession, stack: Stack, token: str) -> None:
        self._http, self._stack, self._token = http, stack, token
        self.seen = Seen()

    async def call(self, name: str, body: Any) -> Any:
        already = len(self._stack.store.requests)
        url = f"{self._stack.api.url}/object/{name}"
        async with self._http.post(url, json=body, headers={"Authorization": f"Bearer {self._token}"}) as answer:
            found = await answer.json(content_type=None)
            headers = {key.lower(): each for key, each in answer.headers.items()}
            headers |= {key: len(headers[key]) for key in _CHANCE}
            self.seen.answers.append((name, answer.status, headers, shape(found)))
        asked = [call for call in self._stack.store.requests[already:] if not call.presigned]
        # The count of open uploads serves for some seconds, whatever is declared.
        self.seen.store_calls.append(Counter(call.kind for call in asked if call.kind != "ListObjects"))
        return found

    async def upload(self, name: str, data: bytes, *, batch: bool) -> None:
        declared = declaration(name, data)
        if batch:
            small = declaration(f"{name}-other", b"unknown" + os.urandom(4))
            answer = (await self.call("batch", {"items": [{"initiate": declared}, {"initiate": small}]}))["results"]
            opened = answer[0]["body"]
        else:
            opened = await self.call("initiate_multipart_upload", declared)
        if opened["commit"] == "complete":
            numbers = [part["part_number"] for part in opened["parts"]]
            again = await self.call("auth_sign", {"upload_id": opened["upload_id"], "part_numbers": numbers})
            opened = {**opened, "parts": again["parts"]}
        calls = Calls(self._http, self._stack.api.url, self._token)
        assert set(await calls.put_parts(opened, data)) == {200}
        await self.call("upload_status", {"upload_id": opened["upload_id"]})
        await self.call("complete_multipart_upload", {"upload_id": opened["upload_id"]})
        await self.call("initiate_multipart_upload", declared)  # now it exists, as its own


@pytest.mark.parametrize("batch", [False, True], ids=["alone", "batch"])
@pytest.mark.parametrize("size", [300 * 1024, 2 * PART + 1], ids=["one part", "three parts"])
async def test_known_content_is_as_unknown_to_who_may_not_have_it(
    stack: Stack, http: aiohttp.ClientSession, size: int, batch: bool
) -> None:
    """Every answer with its headers, and the number and kinds of store calls behind it, of a whole upload."""
    known = os.urandom(size)
    async with stack.client() as client:
        await client.upload(known, stack.prefix + "theirs")
    seen = []
    for number, data in enumerate((os.urandom(size), known, os.urandom(size), known)):
        token = stack.api.add_token(subject=f"stranger-{number}", verbs=["upload"])
        stranger = Stranger(http, stack, token)
        await stranger.upload(f"{stack.prefix}s-{number}", data, batch=batch)
        seen.append(stranger.seen)
    unknown, *others = seen
    for other in others:
        for answer, usual in zip(other.answers, unknown.answers, strict=True):
            assert answer == usual
        assert other.store_calls == unknown.store_calls
    assert stack.store.counts["UploadPartCopy"] == 0


async def test_a_stranger_sends_what_an_owner_need_not(stack: Stack) -> None:
    path = stack.file(2 * PART + 1)
    async with stack.client() as client:
        await client.upload(path, stack.prefix + "theirs")
    sent: list[Call] = []
    stack.store.on(lambda call: call.presigned, sent.append)
    async with Client(stack.calls.url, token=stack.api.add_token(subject="stranger", verbs=["upload"])) as client:
        assert (await client.upload(path, stack.prefix + "mine")).sent_bytes == 2 * PART + 1
    assert sorted(call.length or 0 for call in sent) == [1, PART, PART]
