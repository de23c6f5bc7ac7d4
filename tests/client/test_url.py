"""A URL for somebody without a token: from the client and from the command."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from datetime import timedelta

import pytest

import putgate
from tests.client.stack import Stack, a_stack, the_servers  # noqa: F401


async def test_the_client_gets_one(stack: Stack) -> None:
    name = stack.prefix + "page.html"
    async with stack.client() as client:
        await client.upload(b"<p>", name, content_type="text/html")
        given = await client.url(name, expires_in=timedelta(seconds=60), filename='a"\n/Übung.html', inline=True)
        assert 0 < given.expires_in <= 60
        with urllib.request.urlopen(given.url) as answer:
            assert answer.read() == b"<p>"
            shown = answer.headers["Content-Disposition"]
        assert shown == "attachment; filename=\"a____bung.html\"; filename*=UTF-8''a___%C3%9Cbung.html"
        long = await client.url(name.encode(), expires_in=timedelta(days=30))
        assert 60 < long.expires_in <= 300
        assert "X-Amz" not in repr(given)
        with pytest.raises(putgate.NotFound):
            await client.url(stack.prefix + "absent")


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"expires_in": timedelta(0)}, "at least a second"),
        ({"filename": ""}, "1 to 1024 characters"),
        ({"filename": "x" * 1025}, "1 to 1024 characters"),
        ({"filename": "\ud800"}, "not valid Unicode"),
    ],
)
async def test_a_wish_that_cannot_be_sent(stack: Stack, wish: dict[str, object], says: str) -> None:
    async with stack.client() as client:
        with pytest.raises(ValueError, match=says):
            await client.url("x", **wish)  # type: ignore[arg-type]
    assert stack.calls.total == 0


def test_the_command_prints_nothing_but_the_url(stack: Stack) -> None:
    name = stack.prefix + "a.txt"
    (stack.folder / "a.txt").write_text("content")
    assert stack.run("upload", "a.txt", "--to", name, "--content-type", "text/plain").returncode == 0
    done = stack.run("url", name, "--expires", "1m", "--filename", "b.txt", "--attachment")
    assert (done.returncode, done.stderr) == (0, "")
    [url] = done.stdout.splitlines()
    got = subprocess.run(["curl", "-sSfi", url], capture_output=True, text=True, timeout=60, check=True)
    head, _, body = got.stdout.partition("\n\n" if "\r\n" not in got.stdout else "\r\n\r\n")
    assert body == "content"
    assert 'attachment; filename="b.txt"' in head
    with urllib.request.urlopen(stack.run("url", name, "--inline").stdout.strip()) as answer:
        assert answer.headers["Content-Disposition"] == 'inline; filename="a.txt"'
    described = json.loads(stack.run("url", name, "--expires", "10s", "--json").stdout)
    assert described.keys() == {"name", "url", "expires_at", "expires_in"}
    assert (described["name"], described["expires_in"] <= 10) == (name, True)


def test_the_command_fails_as_the_others_do(stack: Stack) -> None:
    assert stack.run("url", stack.prefix + "absent").returncode == 5
    for arguments in (["--expires", "0s"], ["--expires", "soon"], ["--filename", ""]):
        assert stack.run("url", "x", *arguments).returncode == 2
    token = stack.api.add_token(subject="writer", verbs=["upload", "list"])
    done = stack.run("url", stack.prefix + "absent", PUTGATE_TOKEN=token)
    assert done.returncode == 4
    assert done.stdout == ""


def test_a_url_is_good_for_reading_alone(stack: Stack) -> None:
    (stack.folder / "a").write_text("content")
    stack.run("upload", "a", "--to", stack.prefix)
    url = stack.run("url", stack.prefix + "a").stdout.strip()
    for method in ("PUT", "DELETE"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(url, data=b"other", method=method))
        assert refused.value.code == 403
        refused.value.close()
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"content"
