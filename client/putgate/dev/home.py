"""What outlives a run of `putgate dev`: keys, a token, ports, the settings of each program, the store's data.

Everything lies in one folder that only its owner may read, made at the first start and kept at the next ones.
Nothing here starts anything.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from putgate.dev.errors import DevError

HOST = "127.0.0.1"

BUCKET = "putgate-dev"

STORE_PORTS = {
    "s3": "-s3.port",
    "s3_grpc": "-s3.port.grpc",
    "master": "-master.port",
    "master_grpc": "-master.port.grpc",
    "volume": "-volume.port",
    "volume_grpc": "-volume.port.grpc",
    "filer": "-filer.port",
    "filer_grpc": "-filer.port.grpc",
}
"""SeaweedFS's ports and their flags. To a gRPC port that it is not told it adds 10,000, which may be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where everything listens."""

    store: Mapping[str, int]
    api: int
    admin: int

    @classmethod
    def choose(cls, file: Path) -> Ports:
        """Those of the last run where all are free, so that URLs stay the same; else new ones."""
        names = (*STORE_PORTS, "api", "admin")
        last = _remembered(file, names)
        numbers = last if last is not None and all(map(_is_free, last.values())) else _free_ports(names)
        write_private(file, json.dumps(numbers))
        return cls(store={name: numbers[name] for name in STORE_PORTS}, api=numbers["api"], admin=numbers["admin"])

    @property
    def api_url(self) -> str:
        return f"http://{HOST}:{self.api}"

    @property
    def store_url(self) -> str:
        return f"http://{HOST}:{self.store['s3']}"


def _remembered(file: Path, names: Sequence[str]) -> dict[str, int] | None:
    """The ports of the last run; None where there are none, or the file was cut short."""
    try:
        last = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    usable = isinstance(last, dict) and set(last) == set(names)
    return last if usable and all(isinstance(port, int) and 0 < port < 65536 for port in last.values()) else None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_ports(names: Sequence[str]) -> dict[str, int]:
    """Held open together, so that no two are the same."""
    found = {}
    with ExitStack() as held:
        for name in names:
            one = held.enter_context(socket.socket())
            one.bind((HOST, 0))
            found[name] = one.getsockname()[1]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The folder. `home / name`: a file in it."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def prepare(self) -> None:
        """Make what the first start needs: keys, a token, and who may do what with it. Keeps what is there."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in ("store", "logs"):
            (self / folder).mkdir(exist_ok=True)
        access_key = self._once("access_key_id", lambda: secrets.token_hex(10))
        secret_key = self._once("secret_access_key", lambda: secrets.token_urlsafe(30))
        token = self._once("token", lambda: secrets.token_urlsafe(32))
        self._once("upload_keys", lambda: "dev " + base64.b64encode(secrets.token_bytes(32)).decode())
        write_private(self / "store.json", json.dumps({"identities": [_identity(access_key, secret_key)]}))
        write_private(self / "tokens.yaml", yaml.safe_dump({"tokens": [_token_entry(token)]}, sort_keys=False))

    def check_folder(self, folder: Path) -> None:
        """Raises `DevError` for a folder (absolute) that is this one or lies in it: it holds keys and the store."""
        if folder.is_relative_to(self.path):
            raise DevError(f"{folder} holds keys or the store of this run; choose another folder")

    def write_settings(self, ports: Ports, folder: Path) -> None:
        """The settings of API and daemon, for these ports and this folder (absolute)."""
        for name, settings in (
            ("api.yaml", _api_settings(self, ports)),
            ("daemon.yaml", _daemon_settings(self, ports, folder)),
        ):
            write_private(self / name, yaml.safe_dump(settings, sort_keys=False))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Two runs on one store would destroy it. Raises `DevError` when another holds it."""
        with (self / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DevError(f"another `putgate dev` is running on {self.path}") from None
            yield

    def _once(self, name: str, make: Callable[[], str]) -> str:
        if not (self / name).exists():
            write_private(self / name, make() + "\n")
        return (self / name).read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, and never readable by others, not even while it is written."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def _identity(access_key: str, secret_key: str) -> dict[str, Any]:
    return {
        "name": "dev",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }


def _token_entry(token: str) -> dict[str, Any]:
    return {
        "subject": "dev",
        "sha256": hashlib.sha256(token.encode()).hexdigest(),
        "verbs": ["upload", "download", "list", "delete"],
        "prefixes": [""],
    }


def _api_settings(home: Home, ports: Ports) -> dict[str, Any]:
    store = {
        "provider": "SeaweedFS",
        "bucket": BUCKET,
        "endpoint": ports.store_url,
        "credentials": {
            "type": "Files",
            "access_key_id_file": str(home / "access_key_id"),
            "secret_access_key_file": str(home / "secret_access_key"),
        },
    }
    return {
        "storage": {"s3": store, "management": "Create"},
        "auth": {"token_file": str(home / "tokens.yaml")},
        "upload_keys": {"file": str(home / "upload_keys")},
        # Stopping is meant to be quick here: what is under way is tried again at the next start.
        "listen": {
            "host": HOST,
            "port": ports.api,
            "admin_host": HOST,
            "admin_port": ports.admin,
            "public_url": ports.api_url,
            "drain": "3s",
        },
    }


def _literally(path: str) -> str:
    """A path as a rule that means this very path."""
    return re.sub(r"([\\*?\[\]!# ])", r"\\\1", path)


def _daemon_settings(home: Home, ports: Ports, folder: Path) -> dict[str, Any]:
    """`home` itself is never uploaded, even when `folder` holds it."""
    inside = home.path.is_relative_to(folder)
    watched = {
        "path": str(folder),
        "settle": "500ms",
        "rules": [f"/{_literally(home.path.relative_to(folder).as_posix())}/"] if inside else [],
    }
    return {
        "server": {"url": ports.api_url, "token_file": str(home / "token")},
        "folders": [watched],
        "journal": str(home / "journal.sqlite"),
    }
