"""The command as scripts see it: exit codes, one clear line per error, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.client.stack import MIB, Stack, a_stack, the_servers  # noqa: F401


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_a_file_from_its_upload_to_its_removal(stack: Stack) -> None:
    stack.file(9 * MIB, "report.bin")
    name = stack.prefix + "report.bin"
    done = stack.run("upload", "report.bin", "--to", stack.prefix)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"uploaded  {name}  (9.0 MiB)\n"
    assert stack.run("upload", "report.bin", "--to", stack.prefix).stdout.startswith("exists")
    assert stack.run("ls", stack.prefix).stdout == f"{name}\n"
    assert stack.run("ls", stack.prefix[:-1]).stdout == f"{stack.prefix}\n"
    assert "9.0 MiB" in stack.run("ls", "-l", stack.prefix).stdout
    assert f"size       {9 * MIB} bytes" in stack.run("stat", name).stdout
    (stack.folder / "sub").mkdir()
    done = stack.run("download", name, "sub")
    assert done.returncode == 0, done.stderr
    assert (stack.folder / "sub" / "report.bin").read_bytes() == (stack.folder / "report.bin").read_bytes()
    assert stack.run("rm", name).stdout == f"removed  {name}\n"
    assert stack.run("ls", stack.prefix).stdout == ""


def test_json_has_exact_names(stack: Stack) -> None:
    raw = b"line\nbreak \xff"
    (stack.folder / os.fsdecode(raw)).write_bytes(b"x")
    [done] = lines(stack.run("upload", raw, "--to", stack.prefix, "--json").stdout)
    assert (done["status"], done["size"], done["sent_bytes"]) == ("uploaded", 1, 1)
    [listed] = lines(stack.run("ls", "--json", stack.prefix).stdout)
    assert listed["name_b64"] == done["name_b64"]
    [folder] = [entry for entry in lines(stack.run("ls", "--json").stdout) if entry.get("prefix") == stack.prefix]
    assert folder == {"prefix": stack.prefix}
    [removed] = lines(stack.run("rm", "--json", stack.prefix.encode() + raw).stdout)
    assert removed["status"] == "removed"


def test_several_files_fail_alone(stack: Stack) -> None:
    (stack.folder / "good").write_text("good")
    done = stack.run("upload", "good", "absent", stack.folder, "--to", stack.prefix, "--json")
    assert done.returncode == 1
    assert {(entry["status"], str(entry.get("error"))[:20]) for entry in lines(done.stdout)} == {
        ("uploaded", "None"),
        ("failed", "{'code': 'FileNotFou"),
        ("failed", "{'code': 'IsADirecto"),
    }
    assert "absent: no such file or directory" in done.stderr
    assert "is a directory" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["stat", "nothing/here"], 5, "nothing is stored under the name nothing/here"),
        (["rm", "nothing/here"], 5, "nothing is stored"),
        (["download", "nothing/here"], 5, "nothing is stored"),
        (["stat", "a.versions"], 1, "name reserved (name_reserved)"),
        (["ls", "--server", "http://127.0.0.1:1", "--retry-for", "0s"], 3, "cannot connect: connection refused"),
        (["ls", "--token", "wrong"], 4, "give a valid token"),
    ],
)
def test_each_failure_has_its_code_and_one_line(stack: Stack, arguments: list[str], code: int, says: str) -> None:
    done = stack.run(*arguments)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_token_without_the_verb(stack: Stack) -> None:
    token = stack.api.add_token(subject="reader", verbs=["download", "list"])
    (stack.folder / "file").write_text("x")
    done = stack.run("upload", "file", "--to", stack.prefix, PUTGATE_TOKEN=token)
    assert done.returncode == 4
    assert "forbidden" in one_line(done)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["upload", "file", "--to", "../x"], "the name has a segment '..'"),
        (["upload", "file", "sub/file"], "would both be stored as file"),
        (["upload", "file", "other", "--to", "name"], "end it in a slash"),
        (["upload", "file", "other", "--if-match", "v"], "--if-match is about one file"),
        (["upload", "file", "-m", "novalue"], "--metadata is KEY=VALUE"),
        (["upload"], "Missing argument"),
        (["ls", "--server", "ftp://x"], "http:// or https://"),
        (["ls", "--server", "http://"], "names a host"),
        (["ls", "--server", "http://[::1"], "not a URL"),
        (["ls", "--server", "http://h:99999"], "not a URL"),
        (["ls", "--token", "two\nlines"], "one line of printable ASCII"),
        (["ls", "--retry-for", "soon"], "a duration is written as"),
        (["ls", "--token-file", "absent"], "token file absent cannot be read"),
        (["ls", "--config", "absent.yaml"], "absent.yaml does not exist"),
    ],
)
def test_wrong_usage(stack: Stack, arguments: list[str], says: str) -> None:
    done = stack.run(*arguments)
    assert done.returncode == 2, done.stderr
    assert says in " ".join(done.stderr.split())
    assert stack.calls.total == 0


def test_the_configuration_file(stack: Stack) -> None:
    config = stack.folder / "config" / "putgate" / "config.yaml"
    config.parent.mkdir(parents=True)
    token_file = stack.folder / "token"
    token_file.write_text(stack.api.token + "\n")
    config.write_text(f"server: {stack.calls.url}\ntoken_file: {token_file}\nretry_for: 1s\n")
    done = stack.run("ls", PUTGATE_SERVER="", PUTGATE_TOKEN="")
    assert done.returncode == 0, done.stderr
    config.write_text("servr: http://x\n")
    done = stack.run("ls")
    assert done.returncode == 2
    assert "config.yaml: servr: unknown key" in done.stderr
    done = stack.run("ls", "--config", token_file)
    assert done.returncode == 2
    assert stack.api.token not in done.stderr


def test_no_token_in_what_is_shown(stack: Stack) -> None:
    (stack.folder / "file").write_text("x")
    done = stack.run("upload", "file", "--to", stack.prefix, "-v")
    assert done.returncode == 0
    assert "request id" in done.stderr
    assert stack.api.token not in done.stderr
    assert "X-Amz" not in done.stderr


def test_the_client_needs_no_extra() -> None:
    """What the API and the daemon need must not be needed by an application that uploads."""
    extras = ("aiobotocore", "botocore", "prometheus_client", "structlog", "watchfiles", "uvloop", "pathspec")
    code = f"import sys, putgate, putgate.cli.upload; print([m for m in {extras!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
