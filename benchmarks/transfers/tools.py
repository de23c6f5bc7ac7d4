"""The tools that are compared, each as its users run it: with the settings that it comes with."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PEERS = Path(os.environ.get("PUTGATE_BENCH_PEERS", "~/.cache/putgate/peers")).expanduser()
"""A virtual environment of their own: the AWS CLI wants another botocore than Putgate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where uploads go: a store's bucket, and the API in front of it."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    server: str
    token: str


class Tool(Protocol):
    """`tree` and `file` give the command that makes what is at `source` be below, or at, `name`."""

    name: str

    def tree(self, source: Path, name: str, target: Target) -> list[str]: ...

    def file(self, source: Path, name: str, target: Target) -> list[str]: ...


class Putgate:
    name = "putgate"

    def tree(self, source: Path, name: str, target: Target) -> list[str]:
        return [*self._upload(), "-r", f"{source}/.", "--to", f"{name}/"]

    def file(self, source: Path, name: str, target: Target) -> list[str]:
        return [*self._upload(), str(source), "--to", name]

    def _upload(self) -> list[str]:
        return [str(Path(sys.executable).parent / "putgate"), "upload"]


class S5cmd:
    name = "s5cmd"

    def tree(self, source: Path, name: str, target: Target) -> list[str]:
        return [peer("s5cmd"), "--endpoint-url", target.endpoint, "sync", f"{source}/", s3(target, f"{name}/")]

    def file(self, source: Path, name: str, target: Target) -> list[str]:
        # Its `cp` sends whatever is there; `-n -s -u` is what its `sync` does for one file.
        flags = ["-n", "-s", "-u"]
        return [peer("s5cmd"), "--endpoint-url", target.endpoint, "cp", *flags, str(source), s3(target, name)]


class Rclone:
    name = "rclone"

    def tree(self, source: Path, name: str, target: Target) -> list[str]:
        return [peer("rclone"), "copy", str(source), f":s3:{target.bucket}/{name}", *self._store(target)]

    def file(self, source: Path, name: str, target: Target) -> list[str]:
        return [peer("rclone"), "copyto", str(source), f":s3:{target.bucket}/{name}", *self._store(target)]

    def _store(self, target: Target) -> list[str]:
        store = ["--s3-provider", "SeaweedFS", "--s3-endpoint", target.endpoint, "--s3-env-auth"]
        return [*store, "--s3-no-check-bucket", "--config", os.devnull]


class Aws:
    name = "aws"

    def tree(self, source: Path, name: str, target: Target) -> list[str]:
        return [*self._s3(target), "sync", str(source), s3(target, name), "--only-show-errors"]

    def file(self, source: Path, name: str, target: Target) -> list[str]:
        # `sync` knows folders only: the one with the file in it, into the one of the name.
        into = s3(target, name.rpartition("/")[0])
        only = ["--exclude", "*", "--include", source.name]
        assert name.endswith(f"/{source.name}")
        return [*self._s3(target), "sync", str(source.parent), into, *only, "--only-show-errors"]

    def _s3(self, target: Target) -> list[str]:
        return [peer("aws"), "--endpoint-url", target.endpoint, "s3"]


TOOLS: Sequence[Tool] = (Putgate(), S5cmd(), Rclone(), Aws())


def s3(target: Target, name: str) -> str:
    return f"s3://{target.bucket}/{name}"


def peer(program: str) -> str:
    found = shutil.which(program, path=f"{PEERS / 'bin'}:{os.environ['PATH']}")
    assert found is not None, f"{program} is missing: make bench-peers"
    return found


def environment(home: Path, target: Target) -> dict[str, str]:
    """What the tools know: nothing of this machine's own configuration, and a home that nobody else has."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        # So that the command is of the same tree as the API, which inherits it.
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "AWS_ACCESS_KEY_ID": target.access_key,
        "AWS_SECRET_ACCESS_KEY": target.secret_key,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PUTGATE_SERVER": target.server,
        "PUTGATE_TOKEN": target.token,
    }
