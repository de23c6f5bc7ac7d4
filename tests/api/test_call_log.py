"""The log of calls: one line each, with what the call was about and cost, under the request's id; and no secrets."""

from __future__ import annotations

import os
from typing import Any

import aiohttp

from putgate_api.call_log import CallLine, about, logged, plain, store_call
from tests.api.calls import Calls, declaration
from tests.api.test_audit import as_request, lines
from tests.servers.api import ApiProcess

MIB = 1024 * 1024


def line_of(api: ApiProcess, request_id: str) -> dict[str, Any]:
    [line] = [line for line in lines(api.log) if line["event"] == "call" and line["request_id"] == request_id]
    return line


async def test_a_call_has_one_line_with_who_what_and_what_it_cost(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    calls = Calls(http, api.url, api.token)
    assert (await as_request(calls, "l-1").initiate("a/b", b"abc"))[0] == 200
    line = line_of(api, "l-1")
    wanted = {"caller": "tester", "call": "initiate", "name": "a/b", "outcome": "put", "code": "ok", "bytes": 3}
    assert {key: line[key] for key in wanted} == wanted
    assert line["store_calls"] == 1
    assert line["ms"] > 0
    assert (await as_request(calls, "l-2").file("GET", "nothing"))[0] == 404
    refused = line_of(api, "l-2")
    assert (refused["name"], refused["outcome"], refused["code"]) == ("nothing", "refused", "not_found")


async def test_a_batch_is_one_line_of_counts(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    calls = Calls(http, api.url, api.add_token(subject="s", prefixes=["mine/"]))
    items: list[dict[str, Any]] = [{"initiate": declaration(f"mine/{n}", b"xy")} for n in range(50)]
    items += [{"initiate": declaration("other", b"x")}, {"complete": {"upload_id": "none"}}]
    status, answer = await as_request(calls, "l-3").post("batch", {"items": items})
    assert status == 200
    line = line_of(api, "l-3")
    assert line["items"] == 52
    assert line["outcome"] == {"forbidden": 1, "put": 50, "upload_id_invalid": 1}
    assert line["bytes"] == 101
    assert "name" not in line
    # What an item is refused with can be found in the server's log as well.
    assert answer["results"][50]["body"]["request_id"] == "l-3"


async def test_control_characters_and_secrets_never_reach_the_log(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    calls = Calls(http, api.url, api.token)
    name = 'a\n{"event":"call"}\x1b[2J\u202e\x85'
    assert (await as_request(calls, "l-4").initiate(name, b"x"))[0] == 200
    shown = line_of(api, "l-4")["name"]
    assert shown.isprintable()
    url = f"{api.url}/files?prefix=sought&cursor=hidden-cursor"
    async with http.get(url, headers={**calls.headers, "X-Request-Id": "l-5"}) as answer:
        assert answer.status == 400
    text = api.log.read_text()
    assert "hidden-cursor" not in text
    assert api.token not in text


async def test_every_answer_has_its_request_id(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    calls = Calls(http, api.url, api.token)
    _, headers, _ = await calls.file("HEAD", "x", {"X-Request-Id": "l-6"})
    assert headers["X-Request-Id"] == "l-6"
    for odd in ("a b", "x" * 65, "é"):
        _, headers, _ = await calls.file("GET", "x", {"X-Request-Id": odd})
        assert headers["X-Request-Id"] != odd
        assert len(headers["X-Request-Id"]) == 32
    _, problem = await as_request(calls, "l-7").post("upload_status", {"upload_id": "none"})
    assert problem["request_id"] == "l-7"
    async with http.get(f"{api.url}/files", headers=calls.headers) as answer:
        assert answer.status == 200
        assert len(answer.headers["X-Request-Id"]) == 32


async def test_a_large_upload_counts_its_store_calls(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    calls = Calls(http, api.url, api.token)
    assert (await as_request(calls, "l-8").initiate("large", os.urandom(8 * MIB + 1)))[0] == 200
    line = line_of(api, "l-8")
    assert line["outcome"] == "multipart"
    assert line["store_calls"] >= 4


def test_what_is_told_outside_of_a_call_is_nobodys() -> None:
    store_call()
    about("nobody")
    with logged(CallLine(call="list", request_id="r")) as line:
        store_call()
    store_call()
    assert (line.store_calls, line.name) == (1, None)


def test_long_names_are_cut() -> None:
    assert len(plain("x" * 5000)) == 1025
    assert plain("a\tb") == "a\\tb"
