"""A SeaweedFS that knows several keys: two of one account, one that may only read, one that may do nothing here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.seaweedfs import SeaweedFS, require_weed

SECOND = ("second-key", "second-secret")
READER = ("reader-key", "reader-secret")
WRITER = ("writer-key", "writer-secret")
"""Objects of the bucket, and none of its settings."""


class KeyedSeaweedFS(SeaweedFS):
    def _command(self) -> list[str]:
        command = super()._command()
        config = {
            "identities": [
                {
                    "name": "owner",
                    "credentials": [_key(self.access_key, self.secret_key), _key(*SECOND)],
                    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                },
                {
                    "name": "reader",
                    "credentials": [_key(*READER)],
                    "actions": [f"Read:{self.bucket}", f"List:{self.bucket}"],
                },
                {
                    "name": "writer",
                    "credentials": [_key(*WRITER)],
                    "actions": [f"{action}:{self.bucket}" for action in ("Read", "List", "Write")],
                },
            ]
        }
        (self.data / "s3.json").write_text(json.dumps(config))
        return command


@contextmanager
def keyed_seaweedfs(data: Path) -> Iterator[KeyedSeaweedFS]:
    server = KeyedSeaweedFS(require_weed(), data)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _key(access: str, secret: str) -> dict[str, str]:
    return {"accessKey": access, "secretKey": secret}
