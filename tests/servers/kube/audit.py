"""The API server's audit log: the honest counter of who asked the cluster for what.

It is read, never written; the server writes an event before its answer is complete, so what a test did is there.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # One event per request, when it is over; a watch is an event when it ends.
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One request. `status`: of the answer. `resource` is empty for paths such as /healthz."""

    user: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    status: int
    uri: str
    agent: str

    @classmethod
    def parse(cls, event: dict[str, Any]) -> Self:
        target = event.get("objectRef", {})
        return cls(
            user=event["user"]["username"],
            verb=event["verb"],
            resource=target.get("resource", ""),
            subresource=target.get("subresource", ""),
            namespace=target.get("namespace", ""),
            name=target.get("name", ""),
            status=event.get("responseStatus", {}).get("code", 0),
            uri=event["requestURI"],
            agent=event.get("userAgent", ""),
        )


class AuditLog:
    def __init__(self, path: Path) -> None:
        self.path = path

    def mark(self) -> int:
        """A place in the log: events after it are what happens from now on."""
        return self.path.stat().st_size if self.path.exists() else 0

    def events(
        self, *, user: str | None = None, verbs: Collection[str] | None = None, since: int = 0
    ) -> list[AuditEvent]:
        return [
            event
            for event in self._read(since)
            if (user is None or event.user == user) and (verbs is None or event.verb in verbs)
        ]

    def _read(self, since: int) -> Iterator[AuditEvent]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(since)
            for line in file:
                # The last line may be half written; it is whole at the next look.
                if line.endswith(b"\n"):
                    yield AuditEvent.parse(json.loads(line))
