"""Several API processes on one bucket, with one set of upload keys and tokens, as a Deployment runs them."""

from __future__ import annotations

from pathlib import Path

from tests.servers.api import ApiProcess


def replica_of(first: ApiProcess, folder: Path, *, endpoint: str | None = None) -> ApiProcess:
    """Another process for the same bucket and prefix; not started yet. `endpoint`: its own way to the store."""
    second = ApiProcess(folder, first.store, prefix=first.prefix, endpoint=endpoint)
    second.token, second.tokens = first.token, first.tokens
    second.settings["auth"] = dict(first.settings["auth"])
    second.settings["upload_keys"] = dict(first.settings["upload_keys"])
    return second
