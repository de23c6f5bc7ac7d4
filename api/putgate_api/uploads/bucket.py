"""What every use case needs to know of the bucket that it serves, put together once at the start."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import quote

from putgate_api.auth.access import may
from putgate_api.auth.caller import Caller
from putgate_api.records.bucket import BucketFacts
from putgate_api.records.copies import CopyRecords
from putgate_api.records.index import BUCKET, IndexRecords
from putgate_api.records.keys import RecordKeys
from putgate_api.records.parts import PartRecords
from putgate_api.records.sessions import Sessions
from putgate_api.records.stream_parts import StreamParts
from putgate_api.records.streamed import StreamedRecords
from putgate_api.upload_id import Sealer
from putgate_api.uploads.open_uploads import OpenUploads
from putgate_protocol.messages.base import File
from putgate_protocol.messages.part_limit import PartLimitAnswer
from putgate_protocol.names import Name
from putgate_storage.probe.report import Tier
from putgate_storage.store import Store

MAX_SIGNED_PARTS = 1000
"""Signatures in one answer. Their URLs live for minutes, so more would only expire unused."""

PUT_LIFE = timedelta(seconds=120)
"""How long a PUT that commits may be sent, and replayed by its holder. Clients keep their batches small enough."""

MAX_PUT_SIZE = 8 * 1024 * 1024
"""The largest file that one PUT commits: a lost answer costs at most this much again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What the probe has seen the store do. `tier`: which digests of a part it enforces."""

    tier: Tier
    commit_by_put: bool
    conditional_put: bool
    conditional_complete: bool
    complete_takes_sha256: bool
    part_copy: bool
    conditional_delete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes in bytes."""

    max_object_size: int
    url_ttl: timedelta
    download_ttl: timedelta
    session_ttl: timedelta
    abandon_after: timedelta
    allowed_content_types: tuple[str, ...]
    instant_min_size: int
    instant_scope: Literal["Owner", "Bucket", "Disabled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One bucket and prefix, as the use cases see it. `public_url`: where clients reach this API. `closed`: why nothing
    may be sent at present; what was sent may still be completed. `open_uploads`: how many an owner may have; None
    where nothing is begun.
    """

    store: Store
    prefix: str
    facts: BucketFacts
    abilities: Abilities
    limits: Limits
    sealer: Sealer
    sessions: Sessions
    parts: PartRecords
    copies: CopyRecords
    index: IndexRecords
    public_url: str
    closed: str | None = None
    open_uploads: OpenUploads | None = None
    random_hex: Callable[[int], str] = secrets.token_hex

    def now(self) -> datetime:
        return self.store.now()

    def key(self, name: Name) -> str:
        """The key of a name; raises `NameProblem`."""
        return name.key(self.prefix, self.store.reserves)

    @property
    def stream_parts(self) -> StreamParts:
        return StreamParts(self.store, RecordKeys(self.prefix))

    @property
    def streamed(self) -> StreamedRecords:
        return StreamedRecords(self.store, RecordKeys(self.prefix))

    @property
    def put_max_size(self) -> int:
        return min(MAX_PUT_SIZE, self.facts.part_size) if self.abilities.commit_by_put else 0

    @property
    def requires_md5(self) -> bool:
        """Whether only its MD5 keeps a part to what was declared."""
        return self.abilities.tier == "md5"

    @property
    def vouches(self) -> bool:
        """Whether a file hash is proof of content: only then may anybody but its owner rely on it."""
        return self.abilities.tier == "sha256"

    @property
    def instant_min_size(self) -> int:
        """From this size on, content is registered and found again; larger than any file where it never is."""
        if self.limits.instant_scope == "Disabled" or self.abilities.tier == "none" or not self.abilities.part_copy:
            return self.limits.max_object_size + 1
        return self.limits.instant_min_size

    def index_scope(self, owner: str) -> str:
        """The widest scope in which content of `owner` is registered."""
        return BUCKET if self.limits.instant_scope == "Bucket" and self.vouches else owner

    def part_limit(self) -> PartLimitAnswer:
        return PartLimitAnswer(
            hash_algorithm=self.facts.hash_algorithm,
            part_size=self.facts.part_size,
            max_parts=self.facts.max_parts,
            max_object_size=self.limits.max_object_size,
            max_signed_parts=MAX_SIGNED_PARTS,
            put_max_size=self.put_max_size,
            instant_min_size=self.instant_min_size,
            requires_md5=self.requires_md5,
        )

    def file(
        self,
        caller: Caller,
        name: Name,
        *,
        size: int,
        version: str,
        file_hash: str | None = None,
        modified: datetime | None = None,
        content_type: str | None = None,
    ) -> File:
        """A file as answers show it; its URL only to those who may download it."""
        url = f"{self.public_url}/files/{quote(name.raw, safe='/')}" if may(caller, "download", name) else None
        return File(
            **name.to_wire(),
            size=size,
            version=version or None,
            file_hash=file_hash,
            modified=modified,
            content_type=content_type,
            url=url,
        )
