"""A bucket on the in-memory store with parts of a few bytes, and a clock that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from putgate_api.auth.caller import VERBS, Caller, Rule, owner_id
from putgate_api.records.bucket import BucketFacts
from putgate_api.records.copies import CopyRecords
from putgate_api.records.index import IndexRecords
from putgate_api.records.keys import RecordKeys
from putgate_api.records.parts import PartRecords
from putgate_api.records.sessions import Sessions
from putgate_api.upload_id import Sealer, UploadKeys
from putgate_api.uploads.bucket import Abilities, Bucket, Limits
from putgate_api.uploads.complete import complete
from putgate_api.uploads.initiate import initiate
from putgate_protocol.digests import FileHash, PartHash
from putgate_protocol.messages.base import SignedPart
from putgate_protocol.messages.complete import CompleteAnswer, CompleteRequest
from putgate_protocol.messages.initiate import InitiateRequest, Upload
from putgate_protocol.names import Name
from putgate_protocol.parts import PartRule
from putgate_storage.memory import MemoryStore
from putgate_storage.store import SignedRequest, Store, StoreLimits

PART = 16
RULE = PartRule(part_size=PART, max_parts=10_000)
PREFIX = "files/"


@dataclass(slots=True)
class Clock:
    now: datetime = field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


def caller(subject: str = "tester") -> Caller:
    rule = Rule(verbs=frozenset(VERBS), prefixes=("",))
    return Caller(owner=owner_id("test", subject), subject=subject, rules=(rule,))


def memory_store(clock: Clock) -> MemoryStore:
    return MemoryStore(limits=StoreLimits(min_part_size=1), clock=clock)


def bucket(store: Store, *, scope: Literal["Owner", "Bucket", "Disabled"] = "Owner", **abilities: Any) -> Bucket:
    keys = RecordKeys(PREFIX)
    secret = UploadKeys(signing="k", accepted={"k": b"k" * 32})
    can: dict[str, Any] = {
        "tier": "sha256",
        "commit_by_put": True,
        "conditional_put": True,
        "conditional_complete": True,
        "complete_takes_sha256": True,
        "part_copy": True,
        "conditional_delete": True,
    }
    return Bucket(
        store=store,
        prefix=PREFIX,
        facts=BucketFacts(bucket_id="b" * 32, part_size=PART, max_parts=RULE.max_parts),
        abilities=Abilities(**(can | abilities)),
        limits=Limits(
            max_object_size=2**40,
            url_ttl=timedelta(minutes=15),
            download_ttl=timedelta(minutes=5),
            session_ttl=timedelta(hours=24),
            abandon_after=timedelta(days=7),
            allowed_content_types=(),
            instant_min_size=1,
            instant_scope=scope,
        ),
        sealer=Sealer(lambda: secret),
        sessions=Sessions(store, keys, conditional=(can | abilities)["conditional_put"]),
        parts=PartRecords(store, keys),
        copies=CopyRecords(store, keys),
        index=IndexRecords(store, keys),
        public_url="http://api.test",
    )


def request(name: str, data: bytes, **more: Any) -> InitiateRequest:
    plan = RULE.plan(len(data))
    parts = [PartHash.of(data[part.offset : part.offset + part.length]) for part in plan]
    return InitiateRequest(
        **Name(name.encode()).to_wire(),
        size=len(data),
        part_size=plan.part_size,
        file_hash=str(FileHash.of(parts)),
        parts=[str(part) for part in parts],
        **more,
    )


async def send(store: MemoryStore, part: SignedPart, data: bytes) -> int:
    signed = SignedRequest(method=part.method, url=part.url, headers=part.headers, expires_at=part.expires_at)
    return await store.send(signed, data[part.offset : part.offset + part.length])


async def put_parts(store: MemoryStore, answer: Upload, data: bytes) -> list[int]:
    return list(await asyncio.gather(*(send(store, part, data) for part in answer.parts)))


async def begin(served: Bucket, name: str, data: bytes, **more: Any) -> Upload:
    answer = await initiate(served, caller(), request(name, data, **more))
    assert isinstance(answer, Upload)
    return answer


async def finish(served: Bucket, answer: Upload) -> CompleteAnswer:
    return await complete(served, caller(), CompleteRequest(upload_id=answer.upload_id))


def body(store: MemoryStore, name: str) -> bytes | None:
    found: Mapping[str, Any] = store.objects
    stored = found.get(PREFIX + name)
    return None if stored is None else stored.body
