"""Who may do what: default deny, whole segments, and the same answer late as early."""

from __future__ import annotations

import os
import secrets
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from putgate_api.auth.access import listable, may
from putgate_api.auth.caller import VERBS, Caller, Rule, Verb, owner_id
from putgate_protocol.names import Name
from tests.api.calls import Calls, declaration
from tests.servers.api import ApiProcess, token_entry

MIB = 1024 * 1024


def caller(*rules: Rule) -> Caller:
    return Caller(owner=owner_id("test", "x"), subject="x", rules=rules)


def rule(*prefixes: str, verbs: tuple[Verb, ...] = VERBS) -> Rule:
    return Rule(verbs=frozenset(verbs), prefixes=prefixes)


@pytest.mark.parametrize(
    ("prefix", "name", "allowed"),
    [
        ("", "anything/at/all", True),
        ("team-a/", "team-a/x", True),
        ("team-a/", "team-ab/x", False),
        ("team-a/", "team-a", False),
        ("team-a/", "x/team-a/y", False),
        ("a/b/", "a/b/c", True),
        ("a/b/", "a/bc", False),
    ],
)
def test_prefixes_match_whole_segments(prefix: str, name: str, *, allowed: bool) -> None:
    assert may(caller(rule(prefix)), "upload", Name.from_text(name)) is allowed


def test_nothing_is_allowed_by_default() -> None:
    assert not may(caller(), "upload", Name(b"x"))
    assert not may(caller(rule("", verbs=("list",))), "download", Name(b"x"))


SEGMENTS = st.sampled_from(["a", "b", "ab", "team"])
PREFIXES = st.lists(SEGMENTS, max_size=3).map(lambda parts: "".join(f"{part}/" for part in parts))
NAMES = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)


@given(granted=st.lists(PREFIXES, min_size=1, max_size=4), asked=PREFIXES, name=NAMES)
def test_listing_shows_exactly_what_may_be_listed(granted: list[str], asked: str, name: str) -> None:
    who = caller(rule(*granted))
    scopes = listable(who, asked)
    shown = any(name.startswith(scope) for scope in scopes)
    assert shown == (name.startswith(asked) and may(who, "list", Name.from_text(name)))
    assert not any(one != other and one.startswith(other) for one in scopes for other in scopes)


def test_owners_of_two_issuers_differ() -> None:
    assert owner_id("a", "b") != owner_id("b", "a")
    assert owner_id("a", 'b","c') != owner_id('a","b', "c")


CALLS = {
    "upload": ["initiate_multipart_upload", "auth_sign", "upload_status", "complete_multipart_upload", "abort"],
    "download": ["GET", "HEAD"],
    "delete": ["DELETE"],
    "list": ["LIST"],
}


async def attempt(calls: Calls, call: str, name: str, upload_id: str, data: bytes) -> tuple[int, str | None]:
    match call:
        case "initiate_multipart_upload":
            status, body = await calls.initiate(name, data)
        case "auth_sign":
            status, body = await calls.post(call, {"upload_id": upload_id, "part_numbers": [1]})
        case "LIST":
            status, body = await calls.list(prefix=name.rpartition("/")[0] + "/")
        case "GET" | "HEAD" | "DELETE":
            status, _, _ = await calls.file(call, name)
            return status, None
        case "abort":
            status, body = await calls.post("abort_multipart_upload", {"upload_id": upload_id})
        case _:
            status, body = await calls.post(call, {"upload_id": upload_id})
    return status, body.get("code")


@pytest.mark.parametrize("missing", VERBS)
async def test_each_call_needs_its_verb_and_prefix_late_ones_too(
    http: aiohttp.ClientSession, api: ApiProcess, missing: Verb
) -> None:
    data = os.urandom(8 * MIB + 1)
    token = api.add_token(subject="late", prefixes=["mine/"])
    mine = Calls(http, api.url, token)
    name = "mine/file"
    _, opened = await mine.initiate(name, data)
    weak = [verb for verb in VERBS if verb != missing]
    for changes in ({"verbs": weak, "prefixes": ["mine/"]}, {"prefixes": ["mine2/", "min/"]}):
        # The same subject, so the same owner, with fewer rights than when the upload began.
        fewer = Calls(http, api.url, api.add_token(subject="late", **changes))
        for call in CALLS[missing]:
            status, code = await attempt(fewer, call, name, opened["upload_id"], data)
            assert status == 403, (call, changes)
            assert code in {None, "forbidden"}
    status, answer = await mine.post("upload_status", {"upload_id": opened["upload_id"]})
    assert (status, answer["status"]) == (200, "open")


async def test_another_subject_cannot_use_an_upload_id(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    one = Calls(http, api.url, api.add_token(subject="one"))
    two = Calls(http, api.url, api.add_token(subject="two"))
    data = os.urandom(8 * MIB + 1)
    _, opened = await one.initiate("x", data)
    for call in CALLS["upload"][1:]:
        status, code = await attempt(two, call, "x", opened["upload_id"], data)
        assert (status, code) == (403, "forbidden"), call


async def test_tokens_are_read_again_when_their_file_changes(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    calls = Calls(http, api.url, api.token)
    assert (await calls.list())[0] == 200
    before, api.tokens = api.tokens, [token_entry("other")]
    api.write_tokens()
    status, problem = await calls.list()
    assert (status, problem["code"]) == (401, "unauthenticated")
    (api.folder / "tokens.yaml").write_text("tokens: [")
    status, problem = await calls.list()
    assert (status, problem["code"]) == (503, "not_ready")
    api.tokens = before
    api.write_tokens()
    assert (await calls.list())[0] == 200


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic eDp5", "Bearer nonsense", "bearer \udcff"])
async def test_without_a_known_token_nothing_is_answered(
    http: aiohttp.ClientSession, shared_api: ApiProcess, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    for method, path in (
        ("GET", "/object/part_limit"),
        ("POST", "/object/initiate_multipart_upload"),
        ("POST", "/object/batch"),
        ("GET", "/files"),
        ("GET", "/files/x"),
        ("DELETE", "/files/x"),
    ):
        async with http.request(method, shared_api.url + path, headers=headers) as answer:
            assert answer.status == 401
            assert (await answer.json(content_type=None))["code"] == "unauthenticated"


async def test_a_rule_may_bound_the_size(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    calls = Calls(http, api.url, api.add_token(subject="small", max_object_size="1Ki"))
    assert (await calls.initiate("x", b"x" * 1024))[0] == 200
    status, problem = await calls.initiate("y", b"x" * 1025)
    assert (status, problem["code"]) == (413, "too_large")


async def test_listing_shows_only_what_the_caller_may_list(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    full = Calls(http, api.url, api.token)
    for name in ("a/1", "a/b/2", "ab/3", "c/4", "d/e/f/5", "top"):
        await full.upload(name, b"x")
    some = Calls(http, api.url, api.add_token(subject="s", verbs=["list"], prefixes=["a/", "d/e/", "none/"]))

    async def everything(**query: str) -> tuple[list[str], list[str]]:
        files, prefixes, cursor = [], [], None
        while True:
            status, page = await some.list(**query, **({"cursor": cursor} if cursor else {}))
            assert status == 200
            files += [file["name"] for file in page["files"]]
            prefixes += page["prefixes"]
            if (cursor := page["cursor"]) is None:
                return files, prefixes

    assert sorted((await everything())[0]) == ["a/1", "a/b/2", "d/e/f/5"]
    assert sorted((await everything(limit="1"))[0]) == ["a/1", "a/b/2", "d/e/f/5"]
    assert await everything(delimiter="/") == ([], ["a/", "d/"])
    assert await everything(delimiter="/", prefix="a/") == (["a/1"], ["a/b/"])
    assert await everything(prefix="d/") == (["d/e/f/5"], [])
    status, problem = await some.list(prefix="c/")
    assert (status, problem["code"]) == (403, "forbidden")
    status, page = await full.list(delimiter="/")
    assert page["prefixes"] == ["a/", "ab/", "c/", "d/"]
    assert [file["name"] for file in page["files"]] == ["top"]
    assert "url" not in (await some.list())[1]["files"][0]


async def test_a_cursor_does_not_outlive_the_rights_it_came_from(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    full = Calls(http, api.url, api.token)
    for name in ("a/1", "a/2", "b/1"):
        await full.upload(name, b"x")
    calls = Calls(http, api.url, api.add_token(subject="s", verbs=["list"], prefixes=["a/", "b/"]))
    _, page = await calls.list(limit="1")
    api.tokens[-1]["prefixes"] = ["b/"]
    api.write_tokens()
    status, problem = await calls.list(limit="1", cursor=page["cursor"])
    assert (status, problem["code"]) == (400, "cursor_invalid")


async def test_what_the_caller_may_not_read_looks_like_new(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    """Same name, same content, stored by somebody else: without the right to read, no answer tells that it is there."""
    data = os.urandom(1000)
    name = f"{secrets.token_hex(4)}/x"
    await Calls(http, api.url, api.token).upload(name, data)
    writer = Calls(http, api.url, api.add_token(subject="writer", verbs=["upload"]))
    _, answer = await writer.initiate(name, data)
    assert (answer["status"], answer["commit"]) == ("upload", "complete")
    assert "if-match" not in {key.lower() for key in answer["parts"][0]["headers"]}
    status, problem = await writer.initiate(name, data, if_match="guess")
    assert (status, problem["code"]) == (403, "forbidden")
    absent: Any = declaration(f"{name}-absent", data, if_match="guess")
    status, problem = await writer.post("initiate_multipart_upload", absent)
    assert (status, problem["code"]) == (403, "forbidden")
