"""`access_url` and the redirect: who gets a signed GET, for how long, and what a browser then does with the file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
import yarl

from tests.api.calls import Calls
from tests.api.test_audit import as_request, audit, denials
from tests.servers.api import ApiProcess
from tests.servers.seaweedfs import SeaweedFS

TTL = 300
"""Seconds; the default of download.url_ttl."""


async def get(http: aiohttp.ClientSession, url: str) -> tuple[int, Mapping[str, str], bytes]:
    async with http.get(yarl.URL(url, encoded=True)) as answer:
        return answer.status, answer.headers, await answer.read()


async def access(calls: Calls, name: str, **more: Any) -> dict[str, Any]:
    status, body = await calls.post("access_url", {"name": name, **more})
    assert status == 200, body
    return body


def signed_for(url: str) -> int:
    return int(parse_qs(urlsplit(url).query)["X-Amz-Expires"][0])


async def test_the_url_reads_the_file_without_a_token(calls: Calls, http: aiohttp.ClientSession) -> None:
    await calls.upload("access/a.txt", b"content", content_type="text/plain")
    given = await access(calls, "access/a.txt")
    status, headers, body = await get(http, given["url"])
    assert (status, body) == (200, b"content")
    assert headers["Content-Type"] == "text/plain"
    assert headers["Content-Disposition"] == 'inline; filename="a.txt"'
    assert headers["Cache-Control"] == "private, no-cache"
    assert TTL - 30 < given["expires_in"] <= TTL == signed_for(given["url"])
    left = datetime.fromisoformat(given["expires_at"]) - datetime.now(UTC)
    assert abs(left.total_seconds() - given["expires_in"]) < 30


async def test_a_name_that_is_not_utf_8(calls: Calls, http: aiohttp.ClientSession) -> None:
    await calls.upload(b"access/\xff", b"odd")
    status, given = await calls.post("access_url", {"name_b64": "YWNjZXNzL/8="})
    assert status == 200
    assert (await get(http, given["url"]))[2] == b"odd"


@pytest.mark.parametrize(("asked", "got"), [(1, 1), (60, 60), (TTL, TTL), (TTL + 1, TTL), (2**53 - 1, TTL)])
async def test_a_longer_life_than_allowed_is_cut(calls: Calls, asked: int, got: int) -> None:
    await calls.upload("access/b", b"b")
    given = await access(calls, "access/b", expires_in=asked)
    assert signed_for(given["url"]) == got
    assert given["expires_in"] <= got


@pytest.mark.parametrize(
    "wrong",
    [
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": "60"},
        {"expires_in": 2**53},
        {"filename": ""},
        {"filename": "x" * 1025},
        {"inline": "yes"},
    ],
)
async def test_a_wish_that_makes_no_sense_is_refused(calls: Calls, wrong: dict[str, Any]) -> None:
    status, body = await calls.post("access_url", {"name": "access/x", **wrong})
    assert (status, body["code"]) == (400, "request_invalid")


async def test_what_is_absent_is_not_found(calls: Calls) -> None:
    status, body = await calls.post("access_url", {"name": "access/absent"})
    assert (status, body["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": "a/../b"}, "name_invalid"),
        ({"name": ".putgate/v1/bucket.json"}, "name_reserved"),
        ({"name": "a.versions"}, "name_reserved"),
        ({"name": "a", "name_b64": "YQ=="}, "name_invalid"),
        ({}, "name_invalid"),
    ],
)
async def test_names_that_are_none(calls: Calls, body: dict[str, Any], code: str) -> None:
    status, found = await calls.post("access_url", body)
    assert (status, found["code"]) == (400, code)


async def test_the_answer_and_the_redirect_are_kept_by_nobody(calls: Calls, http: aiohttp.ClientSession) -> None:
    await calls.upload("access/c", b"c")
    _, redirect, _ = await calls.file("GET", "access/c")
    async with http.post(
        f"{calls.url}/object/access_url", json={"name": "access/c"}, headers=calls.headers
    ) as answered:
        for headers in (redirect, answered.headers):
            assert headers["Cache-Control"] == "no-store"
            assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("content_type", ["text/html", "image/svg+xml", 'image/png; a=",text/html"'])
async def test_active_content_is_saved_whatever_is_asked(
    calls: Calls, http: aiohttp.ClientSession, content_type: str
) -> None:
    # A file that exists keeps its type, so each type has content of its own.
    await calls.upload("access/page", content_type.encode(), content_type=content_type)
    _, redirect, _ = await calls.file("GET", "access/page")
    for url in (redirect["Location"], (await access(calls, "access/page", inline=True))["url"]):
        _, headers, _ = await get(http, url)
        assert headers["Content-Disposition"] == 'attachment; filename="page"'
        assert headers["Content-Type"] == content_type


async def test_a_file_name_of_the_callers_choice_arrives_whole(calls: Calls, http: aiohttp.ClientSession) -> None:
    await calls.upload("access/d", b"d", content_type="text/plain")
    asked = 'Bericht "Ü" 日本\r\nX-Evil: 1/../%41 + &=?#.txt'
    given = await access(calls, "access/d", filename=asked, inline=False)
    _, headers, _ = await get(http, given["url"])
    kind, plain, extended = headers["Content-Disposition"].split("; ")
    assert (kind, plain) == ("attachment", 'filename="Bericht ___ ____X-Evil_ 1_..__41 + &=_#.txt"')
    assert extended.startswith("filename*=UTF-8''Bericht%20_%C3%9C_%20%E6%97%A5")
    assert "X-Evil" not in headers


@pytest.mark.parametrize("policy", ["Attach", "Inline"])
async def test_the_settings_policy_holds(
    tmp_path_factory: pytest.TempPathFactory,
    seaweedfs: SeaweedFS,
    http: aiohttp.ClientSession,
    prefix: str,
    policy: str,
) -> None:
    api = ApiProcess(tmp_path_factory.mktemp("api"), seaweedfs, prefix=prefix)
    api.settings["download"] = {"disposition": policy, "url_ttl": "30s"}
    api.start_probed()
    try:
        calls = Calls(http, api.url, api.token)
        await calls.upload("page", b"<p>", content_type="text/html")
        given = await access(calls, "page", inline=True, expires_in=3600)
        _, headers, _ = await get(http, given["url"])
        assert headers["Content-Disposition"].startswith("inline" if policy == "Inline" else "attachment")
        assert signed_for(given["url"]) == 30
        _, headers, _ = await get(http, (await access(calls, "page", inline=False))["url"])
        assert headers["Content-Disposition"].startswith("attachment")
    finally:
        api.kill()


async def test_it_needs_the_right_to_download_and_each_decision_is_told(
    http: aiohttp.ClientSession, api: ApiProcess
) -> None:
    await Calls(http, api.url, api.token).upload("mine/x", b"x")
    reader = Calls(http, api.url, api.add_token(subject="reader", verbs=["download"], prefixes=["mine/"]))
    writer = Calls(http, api.url, api.add_token(subject="writer", verbs=["upload", "list", "delete"]))
    nobody = Calls(http, api.url, None)
    given = await access(as_request(reader, "u-1"), "mine/x")
    assert (await as_request(reader, "u-2").post("access_url", {"name": "other/x"}))[0] == 403
    assert (await as_request(writer, "u-3").post("access_url", {"name": "mine/x"}))[0] == 403
    # Who may not download does not learn what is there.
    assert (await as_request(writer, "u-4").post("access_url", {"name": "absent"}))[0] == 403
    assert (await as_request(nobody, "u-5").post("access_url", {"name": "mine/x"}))[0] == 401
    download = {"subject": "reader", "verb": "download"}
    assert audit(api, "u-1") == [{**download, "name": "mine/x", "decision": "allowed", "rule": "token-file"}]
    assert audit(api, "u-2") == [{**download, "name": "other/x", "decision": "denied", "reason": "not_granted"}]
    assert [line["reason"] for request in ("u-3", "u-4", "u-5") for line in audit(api, request)] == [
        "not_granted",
        "not_granted",
        "no_token",
    ]
    assert await denials(http, api) == {"not_granted": 3, "no_token": 1}
    log = api.log.read_text()
    assert '"call": "access_url"' in log
    assert parse_qs(urlsplit(given["url"]).query)["X-Amz-Signature"][0] not in log
