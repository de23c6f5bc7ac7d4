"""Where Putgate keeps its own objects, below a bucket's prefix. Segments are `[A-Za-z0-9._-]` only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RecordKeys:
    prefix: str

    @property
    def own(self) -> str:
        """Below it everything is Putgate's, of any version."""
        return f"{self.prefix}.putgate/"

    @property
    def root(self) -> str:
        return f"{self.own}v1/"

    @property
    def claim(self) -> str:
        return f"{self.root}claim.json"

    @property
    def probe(self) -> str:
        return f"{self.root}probe.json"

    @property
    def bucket(self) -> str:
        return f"{self.root}bucket.json"

    @property
    def sessions(self) -> str:
        return f"{self.root}sessions/"

    @property
    def indexes(self) -> str:
        return f"{self.root}index/"

    def index(self, scope: str, file_hash: str) -> str:
        """`scope`: an owner's id, or `bucket`."""
        return f"{self.indexes}{scope}/{file_hash[:2]}/{file_hash}.json"

    def streamed(self, nonce: str) -> str:
        return f"{self.root}streamed/{nonce[:2]}/{nonce}.json"

    def session(self, owner: str, session_id: str) -> str:
        return f"{self.sessions}{owner}/{session_id}.json"

    def parts(self, owner: str, session_id: str) -> str:
        return f"{self.sessions}{owner}/{session_id}.parts"

    def copies(self, owner: str, session_id: str) -> str:
        return f"{self.sessions}{owner}/{session_id}.copies"
