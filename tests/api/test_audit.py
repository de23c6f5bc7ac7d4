"""The audit log: a line for each decision, with its request, its caller and its rule; and refusals that are counted."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import aiohttp

from tests.api.calls import Calls, declaration
from tests.servers.api import ApiProcess

MIB = 1024 * 1024


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def audit(api: ApiProcess, request_id: str) -> list[dict[str, Any]]:
    """What was decided for a request, without what every line has."""
    found = [line for line in lines(api.log) if line.get("logger") == "putgate.audit"]
    for line in found:
        assert line["event"] == "access"
        assert line["timestamp"].endswith("Z")
    mine = [line for line in found if line["request_id"] == request_id]
    common = {"event", "timestamp", "level", "logger", "request_id"}
    return [{key: value for key, value in line.items() if key not in common} for line in mine]


def as_request(calls: Calls, request_id: str) -> Calls:
    made = Calls(calls.http, calls.url, None)
    made.headers = {**calls.headers, "X-Request-Id": request_id}
    return made


async def denials(http: aiohttp.ClientSession, api: ApiProcess) -> dict[str, float]:
    async with http.get(f"{api.admin_url}/metrics") as answer:
        text = await answer.text()
    prefix = 'putgate_api_denials_total{reason="'
    rows = [line.removeprefix(prefix).split('"} ') for line in text.splitlines() if line.startswith(prefix)]
    return {reason: float(count) for reason, count in rows}


async def test_what_is_allowed_has_one_line_with_its_rule(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    calls = Calls(http, api.url, api.token)
    data = os.urandom(8 * MIB + 1)
    status, opened = await as_request(calls, "r-1").initiate("a/b", data)
    assert status == 200
    granted = {"subject": "tester", "verb": "upload", "name": "a/b", "decision": "allowed", "rule": "token-file"}
    assert audit(api, "r-1") == [granted]
    for part in opened["parts"]:
        await calls.send(part, data[part["offset"] :][: part["length"]])
    # A batch comes by the same question twice for each complete.
    body = {"items": [{"complete": {"upload_id": opened["upload_id"]}}]}
    assert (await as_request(calls, "r-2").post("batch", body))[0] == 200
    assert audit(api, "r-2") == [granted]
    await as_request(calls, "r-3").list(prefix="a/")
    await as_request(calls, "r-4").file("GET", "a/b")
    await as_request(calls, "r-5").file("DELETE", "a/b")
    assert audit(api, "r-3") == [{**granted, "verb": "list", "name": "a/"}]
    assert audit(api, "r-4") == [{**granted, "verb": "download"}]
    assert audit(api, "r-5") == [{**granted, "verb": "delete"}]


async def test_each_item_of_a_batch_has_its_line_and_answers_have_none(
    http: aiohttp.ClientSession, api: ApiProcess
) -> None:
    calls = as_request(Calls(http, api.url, api.add_token(subject="s", prefixes=["mine/"])), "r-6")
    items = [{"initiate": declaration(name, b"x")} for name in ("mine/1", "other/2", "mine/3")]
    assert (await calls.post("batch", {"items": items}))[0] == 200
    found = [(line["name"], line["decision"], line.get("reason")) for line in audit(api, "r-6")]
    assert found == [("mine/1", "allowed", None), ("other/2", "denied", "not_granted"), ("mine/3", "allowed", None)]


async def test_what_is_refused_has_its_reason_and_is_counted(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    small = Calls(http, api.url, api.add_token(subject="small", prefixes=["s/"], max_object_size=10))
    other = Calls(http, api.url, api.add_token(subject="other"))
    nobody = Calls(http, api.url, "nobody-knows-this")
    _, opened = await Calls(http, api.url, api.token).initiate("x", os.urandom(8 * MIB + 1))
    assert (await as_request(small, "d-1").initiate("s/x", b"x" * 11))[0] == 413
    assert (await as_request(small, "d-2").initiate("t/x", b"x"))[0] == 403
    assert (await as_request(small, "d-3").list(prefix="t/"))[0] == 403
    assert (await as_request(other, "d-4").post("upload_status", {"upload_id": opened["upload_id"]}))[0] == 403
    assert (await as_request(nobody, "d-5").list())[0] == 401
    assert (await as_request(Calls(http, api.url, None), "d-6").list())[0] == 401
    expected = {
        "d-1": {"subject": "small", "verb": "upload", "name": "s/x", "reason": "too_large"},
        "d-2": {"subject": "small", "verb": "upload", "name": "t/x", "reason": "not_granted"},
        "d-3": {"subject": "small", "verb": "list", "name": "t/", "reason": "not_granted"},
        "d-4": {"subject": "other", "verb": "upload", "name": "x", "reason": "not_owner"},
        "d-5": {"subject": None, "reason": "unknown_token"},
        "d-6": {"subject": None, "reason": "no_token"},
    }
    for request_id, line in expected.items():
        assert audit(api, request_id) == [{**line, "decision": "denied"}]
    assert await denials(http, api) == {
        "too_large": 1,
        "not_granted": 2,
        "not_owner": 1,
        "unknown_token": 1,
        "no_token": 1,
    }
    assert "nobody-knows-this" not in api.log.read_text()


async def test_the_log_of_calls_stays_one_line_per_call_and_has_the_same_id(
    http: aiohttp.ClientSession, api: ApiProcess
) -> None:
    await as_request(Calls(http, api.url, api.token), "c-1").list()
    [line] = [line for line in lines(api.log) if line["event"] == "call" and line["request_id"] == "c-1"]
    assert (line["call"], line["code"]) == ("list", "ok")


async def test_requests_without_a_plain_id_get_one(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    calls = Calls(http, api.url, api.token)
    odd = "x" * 65
    await asyncio.gather(calls.list(prefix="p-1/"), as_request(calls, odd).list(prefix="p-2/"))
    found = [line for line in lines(api.log) if line.get("name") in {"p-1/", "p-2/"}]
    assert len({line["request_id"] for line in found}) == 2
    assert all(len(line["request_id"]) == 32 for line in found)
    assert odd not in api.log.read_text()


async def test_concurrent_calls_keep_their_ids_apart(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    calls = Calls(http, api.url, api.token)
    numbers = range(50)
    await asyncio.gather(*(as_request(calls, f"p-{n}").file("HEAD", f"f/{n}") for n in numbers))
    for n in numbers:
        [line] = audit(api, f"p-{n}")
        assert line["name"] == f"f/{n}"
