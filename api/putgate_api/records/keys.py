"""Where Putgate keeps its own objects, below a bucket's prefix. Segments are `[A-Za-z0-9._-]` only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RecordKeys:
    prefix: str

    @property
    def root(self) -> str:
        return f"{self.prefix}.putgate/v1/"

    @property
    def bucket(self) -> str:
        return f"{self.root}bucket.json"

    @property
    def sessions(self) -> str:
        return f"{self.root}sessions/"

    def session(self, owner: str, session_id: str) -> str:
        return f"{self.sessions}{owner}/{session_id}.json"

    def parts(self, owner: str, session_id: str) -> str:
        return f"{self.sessions}{owner}/{session_id}.parts"
