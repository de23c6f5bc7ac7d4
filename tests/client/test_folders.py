"""`putgate upload -r`: what is below a folder, all of it, once, and a word on everything else."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from putgate.upload.walk import Found, Item, Skipped, Unreadable, walk
from tests.client.stack import COMMAND, MIB, Stack, a_stack, the_servers  # noqa: F401
from tests.daemon.program import Stack as DaemonStack
from tests.daemon.program import fill
from tests.daemon.program import stack as daemon_stack
from tests.servers.proxy_calls import Call, kind
from tests.servers.seaweedfs import SeaweedFS

ODD = [
    b"with space",
    "grün/日本".encode(),
    b"+%#?&\\'\"",
    b"new\nline",
    b"bad\xff\xfeutf8",
    b"d/.hidden",
    b"deep/" * 40 + b"f",
]


def made(folder: Path, files: dict[bytes, bytes]) -> Path:
    for name, data in files.items():
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


async def names(stack: Stack) -> set[bytes]:
    async with stack.client() as client:
        found = [file.parsed_name().raw async for file in client.list(stack.prefix)]
    return {name.removeprefix(stack.prefix.encode()) for name in found}


# The walk


def below(items: Iterator[Item]) -> list[bytes]:
    return [item.below for item in items if isinstance(item, Found)]


def test_the_order_is_that_of_whole_paths(tmp_path: Path) -> None:
    paths = [b"a", b"a.txt", b"a-/x", b"b/c/d", b"b/c.txt", b"b", b"z/\xff", b"z/a"]
    made(tmp_path, {path + (b"/f" if path in (b"a", b"b") else b""): b"x" for path in paths})
    found = below(walk(os.fsencode(tmp_path)))
    assert found == sorted(found)
    assert len(found) == len(paths)


def test_links_and_other_things_are_told_and_not_followed(tmp_path: Path) -> None:
    made(tmp_path, {b"real/file": b"12345"})
    (tmp_path / "to-file").symlink_to("real/file")
    (tmp_path / "to-folder").symlink_to("real")
    (tmp_path / "to-itself").symlink_to(".")
    (tmp_path / "to-nothing").symlink_to("absent")
    os.mkfifo(tmp_path / "pipe")
    items = list(walk(os.fsencode(tmp_path)))
    assert [(item.below, item.size) for item in items if isinstance(item, Found)] == [(b"real/file", 5)]
    skipped = {item.path.rpartition(b"/")[2]: item.why for item in items if isinstance(item, Skipped)}
    links = dict.fromkeys((b"to-file", b"to-folder", b"to-itself", b"to-nothing"), "a symbolic link")
    assert skipped == {**links, b"pipe": "no regular file"}


def test_what_vanishes_between_two_looks_is_told(tmp_path: Path) -> None:
    made(tmp_path, {b"a": b"x", b"b": b"x", b"c/d": b"x"})
    items = walk(os.fsencode(tmp_path))
    assert isinstance(next(items), Found)
    (tmp_path / "b").unlink()
    (tmp_path / "c" / "d").unlink()
    (tmp_path / "c").rmdir()
    gone = list(items)
    assert [item.path.rpartition(b"/")[2] for item in gone if isinstance(item, Unreadable)] == [b"b", b"c"]
    assert all(isinstance(item, Unreadable) and isinstance(item.error, FileNotFoundError) for item in gone)


def test_a_folder_that_is_absent_is_told(tmp_path: Path) -> None:
    [item] = walk(os.fsencode(tmp_path / "absent"))
    assert isinstance(item, Unreadable)
    assert item.path == os.fsencode(tmp_path / "absent")


# The command


async def test_a_folder_with_all_its_names(stack: Stack) -> None:
    folder = made(stack.folder / "album", {name: name * 3 for name in ODD})
    made(folder, {b"empty": b"", b"large": os.urandom(9 * MIB)})
    done = stack.run("upload", "-r", "album", "--to", stack.prefix)
    assert (done.returncode, done.stderr) == (0, "")
    count = len(ODD) + 2
    # A file of no bytes is written by the API, and answered as stored.
    assert done.stdout.splitlines()[-1] == f"{count - 1} uploaded (9.0 MiB), 1 stored already, 0 failed, 0 skipped"
    assert await names(stack) == {b"album/" + name for name in (*ODD, b"empty", b"large")}
    async with stack.client() as client:
        for name in ODD:
            await client.download(stack.prefix.encode() + b"album/" + name, stack.folder / "out")
            assert (stack.folder / "out").read_bytes() == name * 3

    stack.store.reset()
    again = stack.run("upload", "-r", "album/", "--to", stack.prefix, "--json")
    assert again.returncode == 0
    assert stack.store.put_body_bytes == 0
    *files, summary = lines(again)
    assert {file["status"] for file in files} == {"exists"}
    assert summary == {
        "status": "summary",
        "uploaded": 0,
        "uploaded_bytes": 0,
        "existed": count,
        "failed": 0,
        "skipped": 0,
    }


async def test_where_folders_and_files_go(stack: Stack) -> None:
    made(stack.folder, {b"one/a": b"1", b"two/a": b"2", b"single": b"3"})
    done = stack.run("upload", "-r", "one", "two/", "single", "--to", stack.prefix + "x/")
    assert done.returncode == 0, done.stderr
    assert await names(stack) == {b"x/one/a", b"x/two/a", b"x/single"}
    for number, folder in enumerate(("one/.", "two/../one/.")):
        done = stack.run("upload", "-r", folder, "--to", f"{stack.prefix}{number}/")
        assert done.returncode == 0, done.stderr
    assert {b"0/a", b"1/a"} <= await names(stack)


async def test_links_below_are_told_and_a_named_one_is_followed(stack: Stack) -> None:
    folder = made(stack.folder / "real", {b"file": b"x"})
    (folder / "link").symlink_to("file")
    (stack.folder / "named").symlink_to("real")
    done = stack.run("upload", "-r", "named", "--to", stack.prefix)
    assert done.returncode == 0
    assert done.stderr == f"putgate: skipped {stack.folder}/named/link: a symbolic link\n"
    assert done.stdout.splitlines()[-1] == "1 uploaded (1 B), 0 stored already, 0 failed, 1 skipped"
    assert await names(stack) == {b"named/file"}
    told = lines(stack.run("upload", "-r", "named", "--to", stack.prefix, "--json"))
    assert {"path": f"{stack.folder}/named/link", "status": "skipped", "why": "a symbolic link"} in told


async def test_bad_names_and_vanished_files_fail_alone(stack: Stack) -> None:
    folder = made(
        stack.folder / "f",
        {b"a": b"x", b"sub/.putgate/b": b"x", b"v\xff.versions": b"x", b"sub/gone": b"x", b"z": b"x"},
    )
    # Files are read when the limits are known, which are asked for when some have been found.
    stack.calls.on(kind("part_limit"), lambda call: (folder / "sub" / "gone").unlink(), times=1)
    done = stack.run("upload", "-r", "f", "--to", stack.prefix, "--json")
    assert done.returncode == 1
    *files, summary = lines(done)
    odd = base64.b64encode(stack.prefix.encode() + b"f/v\xff.versions").decode()
    assert codes(files) == {
        f"{stack.folder}/f/sub/.putgate/b": "name_reserved",
        odd: "name_reserved",
        f"{stack.prefix}f/sub/gone": "FileNotFoundError",
    }
    assert f"putgate: {stack.folder}/f/sub/.putgate/b: the name has a segment '.putgate'" in done.stderr
    assert f"putgate: {stack.folder}/f/sub/gone: no such file or directory\n" in done.stderr
    assert (summary["uploaded"], summary["failed"]) == (2, 3)
    assert await names(stack) == {b"f/a", b"f/z"}


def codes(told: list[dict[str, Any]]) -> dict[str, str]:
    """Of what has failed, by its name or path."""
    failed = [one for one in told if one["status"] == "failed"]
    return {one.get("name") or one.get("name_b64") or one["path"]: one["error"]["code"] for one in failed}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
async def test_a_folder_that_cannot_be_listed_fails_alone(stack: Stack) -> None:
    folder = made(stack.folder / "f", {b"a": b"x", b"closed/b": b"x"})
    (folder / "closed").chmod(0)
    done = stack.run("upload", "-r", "f", "--to", stack.prefix)
    (folder / "closed").chmod(0o700)
    assert done.returncode == 1
    assert "closed: permission denied" in done.stderr
    assert await names(stack) == {b"f/a"}


async def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(stack: Stack) -> None:
    made(stack.folder / "outside", {b"a": b"secret"})
    folder = made(stack.folder / "f", {b"sub/a": b"x", b"z": b"x"})

    def swap(call: Call) -> None:
        (folder / "sub").rename(stack.folder / "away")
        (folder / "sub").symlink_to(stack.folder / "outside")

    stack.calls.on(kind("part_limit"), swap, times=1)
    done = stack.run("upload", "-r", "f", "--to", stack.prefix)
    assert done.returncode == 1
    assert await names(stack) == {b"f/z"}
    assert f"putgate: {stack.folder}/f/sub/a: not a directory\n" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-r", "one", "--to", "name"], "with -r, --to is a folder: end it in a slash"),
        (["-r", "one", "sub/one"], "two folders would both be stored below one/"),
        (["-r", "one/.", "sub"], "may get the same names"),
        (["-r", "one", "--if-match", "v"], "--if-match is about one file"),
        (["-r", "sub/.putgate"], "cannot begin a name"),
        (["-r", "one", "--to", "../"], "cannot begin a name"),
    ],
)
def test_wrong_usage(stack: Stack, arguments: list[str], says: str) -> None:
    made(stack.folder, {b"one/a": b"x", b"sub/one/a": b"x", b"sub/.putgate/x": b"x"})
    done = stack.run("upload", *arguments)
    assert done.returncode == 2, done.stderr
    assert says in " ".join(done.stderr.split())
    assert stack.calls.total == 0


def test_without_r_a_folder_is_no_file(stack: Stack) -> None:
    made(stack.folder, {b"one/a": b"x"})
    done = stack.run("upload", "one", "--to", stack.prefix)
    assert done.returncode == 1
    assert "one: is a directory" in done.stderr


async def test_a_killed_run_goes_on_where_it_stopped(stack: Stack) -> None:
    folder = made(stack.folder / "f", {b"small/%04d" % number: b"%d" % number for number in range(300)})
    large = stack.file(12 * 8 * MIB, "large")
    large.rename(folder / "large")
    process = stack.start("upload", "-r", "f", "--to", stack.prefix)
    stack.store.wait_until(lambda proxy: len(parts_stored(proxy.requests)) >= 4, 120)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    stack.store.wait_idle()
    held = len(parts_stored(stack.store.requests))
    stack.store.reset()
    done = stack.run("upload", "-r", "f", "--to", stack.prefix)
    assert done.returncode == 0, done.stderr
    assert len(await names(stack)) == 301
    assert len(parts_stored(stack.store.requests)) == 12 - held
    assert stack.open_uploads() == []


def parts_stored(calls: list[Call]) -> list[Call]:
    return [call for call in calls if call.kind == "UploadPart" and call.presigned and call.status == 200]


# What it costs


@pytest.fixture(name="both")
def a_daemon_beside(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str) -> Iterator[DaemonStack]:
    with daemon_stack(tmp_path, seaweedfs, prefix) as running:
        yield running


@pytest.mark.parametrize("files", [500, pytest.param(5000, marks=pytest.mark.slow)])
def test_it_takes_no_more_requests_than_the_daemon(both: DaemonStack, files: int) -> None:
    fill(both.folder, files, folders=files // 50)
    assert both.once().process.returncode == 0
    daemon_store, daemon_api = both.to_store.total, both.to_api.total
    both.reset()
    command = [COMMAND, "upload", "-r", both.folder, "--to", "by-command/"]
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("PUTGATE_", "XDG_"))},
        "PUTGATE_SERVER": both.to_api.url,
        "PUTGATE_TOKEN": both.api.token,
        "XDG_STATE_HOME": str(both.home / "state-of-command"),
        "XDG_CONFIG_HOME": str(both.home / secrets.token_hex(4)),
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{files} uploaded")
    assert both.to_store.put_body_bytes == files * 4096
    # How a run falls into batches depends on the machine's load: a few more or less are no request for each file.
    assert both.to_store.total <= daemon_store + files // 50
    assert both.to_api.total <= daemon_api + files // 50
    assert both.to_store.total <= 1.1 * files
