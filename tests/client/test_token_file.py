"""A token in a file: the newest one is used at each call, and a rotation is never met in its middle."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

import putgate
from putgate.token_file import TokenFile
from tests.servers.api import ApiProcess


def put(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def test_a_change_is_seen_and_a_gap_is_not(tmp_path: Path) -> None:
    path = tmp_path / "token"
    put(path, "first\n")
    token = TokenFile(path)
    assert token() == "first"
    put(path, "second")
    assert token() == "second"
    for gap in ("", "two words", "é"):
        put(path, gap)
        assert token() == "second"
    path.unlink()
    assert token() == "second"
    put(path, "third")
    assert token() == "third"
    assert "third" not in repr(token)


@pytest.mark.parametrize("text", ["", " \n", "two words", "é"])
def test_what_holds_no_token_is_an_error_that_does_not_show_it(tmp_path: Path, text: str) -> None:
    put(tmp_path / "token", text)
    with pytest.raises(ValueError, match="one line of printable ASCII") as caught:
        TokenFile(tmp_path / "token")
    assert not text.strip() or text not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        TokenFile(tmp_path / "absent")


def test_a_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "token", "here")
    assert TokenFile("~/token")() == "here"


@pytest.fixture(name="tokens")
def token_and_file(api: ApiProcess, tmp_path: Path) -> Path:
    path = tmp_path / "token"
    put(path, api.token)
    return path


def accept_only(api: ApiProcess, **changes: object) -> str:
    """Another token of the same subject, in place of all that were known."""
    api.tokens.clear()
    return api.add_token(**changes)


async def test_a_client_goes_on_with_the_newest_token(api: ApiProcess, tokens: Path) -> None:
    async with putgate.Client(api.url, token=putgate.TokenFile(tokens)) as client:
        await client.upload(b"one", "x/1")
        # Fewer rights, and the old token is good still: the new one holds from the next call on.
        put(tokens, api.add_token(verbs=["list"]))
        with pytest.raises(putgate.Forbidden):
            await client.upload(b"two", "x/2")
        put(tokens, accept_only(api))
        await client.upload(b"three", "x/3")


async def test_many_calls_at_once_meet_a_rotation(api: ApiProcess) -> None:
    """A function is asked again when its token is refused: by each call, or by another that was first."""
    current = [api.token]
    asked = 0

    def source() -> str:
        nonlocal asked
        asked += 1
        return current[0]

    async with putgate.Client(api.url, token=source) as client:
        await client.upload(b"one", "x/1")
        current[0] = accept_only(api)
        await asyncio.gather(*(client.stat("x/1") for _ in range(50)))
        assert 2 <= asked <= 51
        before = asked
        await client.stat("x/1")
        assert asked == before


async def test_a_token_that_is_refused_and_has_not_changed_is_refused(api: ApiProcess, tokens: Path) -> None:
    async with putgate.Client(api.url, token=putgate.TokenFile(tokens)) as client:
        accept_only(api)
        with pytest.raises(putgate.Unauthenticated):
            await client.upload(os.urandom(10), "x/1")
