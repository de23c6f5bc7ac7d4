"""What tests of instant upload share: a client on the in-memory store, and stores whose copies are no copies."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from putgate_api.auth.caller import VERBS, Caller, Rule, owner_id
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.complete import complete
from putgate_api.uploads.initiate import initiate
from putgate_protocol.messages.complete import CompleteAnswer, CompleteRequest, Copying
from putgate_protocol.messages.initiate import Exists, Upload
from putgate_protocol.problems import Problem
from putgate_storage.errors import StoreError
from putgate_storage.memory import MemoryStore
from putgate_storage.store import Condition, CopiedPart, ObjectHeaders, Small, StoreLimits, StoreUpload
from tests.api.memory_bucket import PREFIX, Clock, caller, put_parts, request

TRIES = 40
CALLS = 200


def stranger(*prefixes: str, subject: str = "stranger") -> Caller:
    """Somebody else, who may upload anywhere, and do everything below these prefixes."""
    rules = [Rule(verbs=frozenset({"upload"}), prefixes=("",))]
    if prefixes:
        rules.append(Rule(verbs=frozenset(VERBS), prefixes=prefixes))
    return Caller(owner=owner_id("test", subject), subject=subject, rules=tuple(rules))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a whole upload took. `copying`: how often the answer was that parts are being copied."""

    bytes: int
    parts: int
    copying: int


async def upload(
    served: Bucket, store: MemoryStore, name: str, data: bytes, who: Caller | None = None, clock: Clock | None = None
) -> Sent:
    """Everything that a client does for a file, however often it has to begin again."""
    who = who or caller()
    sent = Sent(bytes=0, parts=0, copying=0)
    for _ in range(TRIES):
        try:
            answer = await initiate(served, who, request(name, data))
            if isinstance(answer, Exists):
                return sent
            if isinstance(answer, Upload):
                statuses = await put_parts(store, answer, data)
                sent = replace(
                    sent,
                    bytes=sent.bytes + sum(part.length for part in answer.parts),
                    parts=sent.parts + len(answer.parts),
                )
                assert set(statuses) <= {200}
                if answer.next_part_number is not None:
                    continue
            upload_id, done = answer.upload_id, None
            while not isinstance(done, CompleteAnswer):
                sent = replace(sent, copying=sent.copying + isinstance(done or answer, Copying))
                if sent.copying > CALLS:
                    raise AssertionError("it copies for ever")
                done = await complete(served, who, CompleteRequest(upload_id=upload_id))
            return sent
        except Problem as error:
            if error.code not in {"upload_busy", "upload_gone", "parts_missing"}:
                raise
            if error.code == "upload_busy" and clock is not None:
                clock.move(seconds=61)
    raise AssertionError("no end")


def index_keys(store: MemoryStore) -> list[str]:
    return [key for key in store.objects if key.startswith(f"{PREFIX}.putgate/v1/index/")]


def index_scopes(store: MemoryStore) -> set[str]:
    return {key.removeprefix(f"{PREFIX}.putgate/v1/index/").partition("/")[0] for key in index_keys(store)}


def session_keys(store: MemoryStore) -> list[str]:
    return [key for key in store.objects if "/sessions/" in key]


def index_of(store: MemoryStore) -> dict[str, Any]:
    (key,) = index_keys(store)
    tree: dict[str, Any] = json.loads(store.objects[key].body)
    return tree


async def rewrite_index(store: MemoryStore, **changes: object) -> None:
    (key,) = index_keys(store)
    await store.put_small(key, json.dumps(index_of(store) | changes).encode())


class CopyingStore(MemoryStore):
    """Counts copies. A subclass does something else with those after part `honest`. `index_fails`: what each call for
    an index record raises.
    """

    def __init__(self, clock: Clock, *, honest: int = 0) -> None:
        super().__init__(limits=StoreLimits(min_part_size=1), clock=clock)
        self.copied: list[tuple[str, int, tuple[int, int] | None]] = []
        self.index_fails: StoreError | None = None
        self.conditions: set[str | None] = set()
        self._honest = honest

    async def get_small(self, key: str, max_bytes: int) -> Small | None:
        self._check_index(key)
        return await super().get_small(key, max_bytes)

    async def put_small(
        self, key: str, body: bytes, *, headers: ObjectHeaders | None = None, condition: Condition | None = None
    ) -> str:
        self._check_index(key)
        return await super().put_small(key, body, headers=headers, condition=condition)

    def _check_index(self, key: str) -> None:
        if self.index_fails is not None and "/index/" in key:
            raise self.index_fails

    async def copy_part(
        self,
        upload: StoreUpload,
        number: int,
        source: str,
        *,
        span: tuple[int, int] | None,
        source_etag: str | None,
    ) -> CopiedPart:
        self.copied.append((source, number, span))
        self.conditions.add(source_etag)
        true = await super().copy_part(upload, number, source, span=span, source_etag=source_etag)
        return true if number <= self._honest else self.instead(upload, number, true)

    def instead(self, upload: StoreUpload, number: int, true: CopiedPart) -> CopiedPart:
        return true

    def put(self, upload: StoreUpload, number: int, body: bytes) -> None:
        self._uploads[upload.upload_id].parts[number] = body

    def held(self, upload: StoreUpload, number: int) -> bytes:
        return self._uploads[upload.upload_id].parts[number]
