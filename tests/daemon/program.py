# ruff: noqa: PTH118, PTH123
"""The daemon as a process, in front of a real API and store, each behind a proxy that counts."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from putgate_daemon.journal import report
from putgate_daemon.journal.records import RootStatus
from putgate_protocol.names import encode
from tests.servers.api import ApiProcess
from tests.servers.proxy import StoreProxy, running
from tests.servers.proxy_calls import api_kind
from tests.servers.s3 import S3Server
from tests.servers.seaweedfs import SeaweedFS

DEADLINE = 300.0


class Daemon:
    """One process of `putgate-daemon`, with every event that it logs."""

    def __init__(self, command: str, config: Path, *arguments: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.text: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "putgate_daemon", command, "--config", str(config), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={key: value for key, value in os.environ.items() if not key.startswith("PUTGATE_")},
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                with self._changed:
                    if line.startswith("{"):
                        self.events.append(json.loads(line))
                    else:
                        self.text.append(line.rstrip("\n"))
                    self._changed.notify_all()

    def of(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        with self._changed:
            return [it for it in self.events if it["event"] == event and fields.items() <= it.items()]

    def wait_for(self, event: str, count: int = 1, timeout: float = DEADLINE, **fields: Any) -> list[dict[str, Any]]:
        deadline = time.monotonic() + timeout
        while len(found := self.of(event, **fields)) < count:
            with self._changed:
                self._changed.wait(0.1)
            if self.process.poll() is not None:
                self._reader.join()
                if len(self.of(event, **fields)) < count:
                    raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {count} × {event} {fields}:\n{self.tail()}")
        return found

    def tail(self) -> str:
        return "\n".join([*self.text[-30:], *(json.dumps(event) for event in self.events[-30:])])

    def end(self, timeout: float = DEADLINE) -> int:
        """Wait for its end."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"the daemon goes on:\n{self.tail()}") from None
        self._reader.join()
        return code

    def stop(self, how: signal.Signals = signal.SIGTERM, timeout: float = 15) -> int:
        self.process.send_signal(how)
        return self.end(timeout)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()


@dataclass(slots=True)
class Stack:
    """API and store behind proxies, a folder, and a settings file for the daemon."""

    home: Path
    api: ApiProcess
    store: SeaweedFS | S3Server
    to_store: StoreProxy
    to_api: StoreProxy
    settings: dict[str, Any]
    folder: Path
    daemons: list[Daemon] = field(default_factory=list)

    @property
    def config(self) -> Path:
        path = self.home / "daemon.yaml"
        path.write_text(yaml.safe_dump(self.settings))
        return path

    @property
    def journal(self) -> Path:
        return Path(self.settings["journal"])

    def daemon(self, command: str, *arguments: str) -> Daemon:
        self.daemons.append(Daemon(command, self.config, *arguments))
        return self.daemons[-1]

    def once(self, *arguments: str, timeout: float = DEADLINE) -> Daemon:
        """Run once, to the end; its exit code is `process.returncode`."""
        daemon = self.daemon("once", *arguments)
        daemon.end(timeout)
        return daemon

    def reset(self) -> None:
        self.to_store.reset()
        self.to_api.reset()

    def delete_journal(self) -> None:
        for path in self.journal.parent.glob(self.journal.name + "*"):
            path.unlink()

    def stored(self) -> dict[str, str]:
        """What is in the bucket: encoded name → ETag, which SeaweedFS makes from the bytes that it keeps."""
        client: Any = self.store.client()
        try:
            found: dict[str, str] = {}
            for page in client.get_paginator("list_objects_v2").paginate(
                Bucket=self.store.bucket, Prefix=self.api.prefix
            ):
                for item in page.get("Contents", ()):
                    name = item["Key"].removeprefix(self.api.prefix)
                    if not name.startswith(".putgate/"):
                        found[name] = item["ETag"].strip('"')
            return found
        finally:
            client.close()

    def content(self, name: str) -> bytes | None:
        client: Any = self.store.client()
        try:
            return bytes(client.get_object(Bucket=self.store.bucket, Key=self.api.prefix + name)["Body"].read())
        except client.exceptions.NoSuchKey:
            return None
        finally:
            client.close()

    def wait_content(self, name: str, content: bytes, timeout: float = DEADLINE) -> None:
        wait_until(lambda: self.content(name) == content, timeout, self.daemons[-1].tail)

    def journal_files(self) -> int:
        return self._roots()[0].files

    def journal_failed(self) -> int:
        return self._roots()[0].failed

    def _roots(self) -> list[RootStatus]:
        roots = report.read(self.journal)
        assert roots
        return roots

    def open_uploads(self) -> list[str]:
        client: Any = self.store.client()
        try:
            found = client.list_multipart_uploads(Bucket=self.store.bucket, Prefix=self.api.prefix)
            return [upload["Key"] for upload in found.get("Uploads", ())]
        finally:
            client.close()

    def assert_identical(self, prefix: str = "in/", without: Collection[str] = ()) -> None:
        """The bucket holds the folder's files under `prefix`, byte for byte, and nothing else there but `without`."""
        expected = {encode(prefix.encode() + path): hashlib.md5(data).hexdigest() for path, data in tree(self.folder)}
        found = {name: etag for name, etag in self.stored().items() if name.startswith(prefix) and name not in without}
        for name, etag in found.items():
            if "-" in etag:  # several parts: no MD5 of the bytes
                found[name] = hashlib.md5(self.content(name) or b"").hexdigest()
        assert found == expected


@contextmanager
def stack(home: Path, store: SeaweedFS | S3Server, prefix: str) -> Iterator[Stack]:
    """All of it, for the length of a block; `settle` and `rescan` may be changed before a daemon starts."""
    with running(store.endpoint) as to_store:
        api = ApiProcess(home / "api", store, prefix=prefix, endpoint=to_store.url)
        with running(api.url, classify=api_kind) as to_api:
            api.start_probed()
            folder = home / "in"
            folder.mkdir()
            (home / "token").write_text(api.token)
            settings = {
                "server": {"url": to_api.url, "token_file": str(home / "token")},
                "folders": [{"path": str(folder), "prefix": "in/"}],
                "journal": str(home / "state" / "j.db"),
            }
            made = Stack(home, api, store, to_store, to_api, settings, folder)
            made.reset()
            try:
                yield made
            finally:
                for daemon in made.daemons:
                    if daemon.process.poll() is None:
                        daemon.kill()
                api.kill()


def tree(folder: Path) -> Iterator[tuple[bytes, bytes]]:
    root = os.fsencode(folder)
    for base, _, names in os.walk(root):
        for name in names:
            path = os.path.join(base, name)
            with open(path, "rb") as file:
                yield os.path.relpath(path, root), file.read()


def fill(folder: Path, files: int, *, folders: int = 1, size: int = 4096) -> None:
    for number in range(folders):
        (folder / f"d{number:04}").mkdir(parents=True, exist_ok=True)
    for number in range(files):
        (folder / f"d{number % folders:04}" / f"f{number:05}").write_bytes(secrets.token_bytes(size))


def wait_until(
    condition: Callable[[], bool], timeout: float = DEADLINE, explain: Callable[[], str] = lambda: "it did not happen"
) -> None:
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(explain())
        pause.wait(0.05)
