r"""Session records: the state of one multipart upload, kept in the bucket so that any replica can go on with it.

        ┌──────── (store upload vanished, or creator died) ───────┐
        ▼                                                          │
    creating ──▶ open ──▶ completing ──▶ done ──(new initiate)──▶ creating
        │          │            ├──(refused, or its holder died)──▶ open
        └──────────┴────────────┴──▶ aborting ──▶ (record removed)
                                        └──(published, and not as it was sent)──▶ open

The record is written *before* the store upload is created, so that an upload whose creation was cut short can be
found and dropped. Every step is a write conditional on the record's ETag; where a store has no such writes, one
process at a time is what keeps a session whole.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from weakref import WeakValueDictionary

from putgate_api.records.keys import RecordKeys
from putgate_protocol.digests import FileHash
from putgate_protocol.names import Name
from putgate_storage.errors import ConditionFailed, Permanent, Transient
from putgate_storage.store import Condition, IfAbsent, IfMatch, ObjectHeaders, Store

State = Literal["creating", "open", "completing", "aborting", "done"]

_VERSION = 1
_MAX_BYTES = 16 * 1024
_JSON = ObjectHeaders(content_type="application/json")

UNREADABLE = frozenset({"RecordDamaged", "RecordUnknown", "TooLarge"})
"""Codes of the errors that are a record's own, and stay the same however often it is read."""

LAPSE = timedelta(seconds=60)
"""How long a `completing` or `aborting` holder counts as alive after its last write. Shorter, and a store that is
slow to complete a large upload looks like a dead holder; longer, and clients wait longer after a crash."""

CREATION_LAPSE = timedelta(seconds=5)
"""How long a `creating` record may stand before another takes it over. Creating takes one store call; taking over
a live creator loses nothing, since only one of the two can move the record on, and the other drops its upload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """`holder`: who moves it on, empty when released. `version`: the published object's ETag, once done. `copying`:
    some parts are copied inside the store, and what it holds of them counts only as the `.copies` record says. `md5`:
    marks the list of MD5s that is signed for it; empty where none are. `streamed`: its parts are declared as they come;
    `file_hash` and `size` are those of nothing until it completes.
    """

    id: str
    owner: str
    key: str
    file_hash: FileHash
    size: int
    part_size: int
    nonce: str
    state: State
    created: datetime
    expires: datetime
    store_upload_id: str | None = None
    holder: str = ""
    version: str | None = None
    copying: bool = False
    md5: str = ""
    streamed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A session as it stands in the bucket. `age` is by the store's own clock."""

    session: Session
    etag: str
    age: timedelta

    def lapsed(self) -> bool:
        """Whether nobody alive is moving it on."""
        return self.remaining() <= timedelta()

    def remaining(self) -> timedelta:
        """How long the holder still counts as alive without another write."""
        if self.session.holder == "":
            return timedelta()
        return (CREATION_LAPSE if self.session.state == "creating" else LAPSE) - self.age


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOf:
    """What a session is for. Uploads of one content under other preconditions are other sessions: the end of one,
    when its precondition is lost, is not the end of the other.
    """

    owner: str
    key: str
    name: Name
    file_hash: FileHash
    part_size: int
    if_absent: bool
    if_match: str | None

    @property
    def id(self) -> str:
        """Begins with a hash of the key, so that the sessions of one key are told by their names in a listing."""
        what = [self.owner, self.name.raw.hex(), str(self.file_hash), self.part_size, self.if_absent, self.if_match]
        return f"{key_mark(self.key)}-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:40]}"


def fits_its_place(session: Session, prefix: str, owner: str, session_id: str) -> bool:
    """Whether a record says of itself what its place says, and is of a file below `prefix`. One that somebody has moved
    or edited could otherwise make us end the upload of another.
    """
    return (
        (session.owner, session.id) == (owner, session_id)
        and Name.from_key(session.key, prefix) is not None
        and (session.store_upload_id is not None or session.state not in {"open", "completing"})
    )


def stream_id(owner: str, key: str, nonce: str) -> str:
    """Of the session of a stream. Each is its own: what it is for is only known at its end."""
    what = [owner, "stream", nonce]
    return f"{key_mark(key)}-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:40]}"


def key_mark(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


Locks = WeakValueDictionary[str, asyncio.Lock]
"""By session, for as long as somebody holds or awaits one."""


class Sessions:
    """Reads and moves session records. `conditional`: whether the store has conditional writes."""

    def __init__(
        self,
        store: Store,
        keys: RecordKeys,
        *,
        conditional: bool,
        random_hex: Callable[[int], str] = secrets.token_hex,
        locks: Locks | None = None,
    ) -> None:
        self._store = store
        self._keys = keys
        self._conditional = conditional
        self._random_hex = random_hex
        self._locks = Locks() if locks is None else locks

    def through(self, store: Store) -> Sessions:
        """The same sessions reached by `store`, a wrapper of the same one; they are kept apart by the same locks."""
        other = copy.copy(self)
        other._store = store  # noqa: SLF001 - a view of ourselves
        return other

    @asynccontextmanager
    async def alone(self, owner: str, session_id: str) -> AsyncIterator[None]:
        """Keep other calls of this process from the session meanwhile, where the store cannot keep them apart."""
        if self._conditional:
            yield
            return
        name = f"{owner}/{session_id}"
        lock = self._locks.get(name) or self._locks.setdefault(name, asyncio.Lock())
        async with lock:
            yield

    def folder(self, owner: str) -> str:
        """Below it are the records of this owner's uploads."""
        return f"{self._keys.sessions}{owner}/"

    async def get(self, owner: str, session_id: str) -> Kept | None:
        """Raises `Permanent` for a record that is damaged, or of a version that this program does not know."""
        found = await self._store.get_small(self._keys.session(owner, session_id), _MAX_BYTES)
        if found is None:
            return None
        return Kept(
            session=_from_json(found.body, session_id),
            etag=found.etag,
            age=max(found.date - found.modified, timedelta()),
        )

    async def create(self, session: Session) -> Kept | None:
        """Write a first record; None when there is one already."""
        return await self._write(session, IfAbsent())

    async def move(self, kept: Kept, **changes: Any) -> Kept | None:
        """Replace the record that `kept` shows; None when somebody else was faster."""
        return await self._write(replace(kept.session, **changes), IfMatch(etag=kept.etag))

    async def remove(self, session: Session) -> None:
        """Remove the record; its holder must have just written it, so that no other has taken it over."""
        await self._store.delete(self._keys.session(session.owner, session.id))

    async def of_key(self, key: str) -> list[Kept]:
        """Every session of this key, of any owner. Reads the names of all sessions: for recoveries only."""
        found: list[Kept] = []
        token: str | None = None
        while True:
            page = await self._store.list(self._keys.sessions, token=token)
            for entry in page.entries:
                owner, _, file = entry.key.removeprefix(self._keys.sessions).partition("/")
                if file.startswith(key_mark(key)) and file.endswith(".json"):
                    kept = await self.get(owner, file.removesuffix(".json"))
                    if kept is not None and kept.session.key == key:
                        found.append(kept)
            if (token := page.token) is None:
                return found

    async def _write(self, session: Session, condition: Condition) -> Kept | None:
        # The stamp makes every write's bytes its own, so that after a lost answer one can see who wrote.
        body = json.dumps(_to_json(session) | {"stamp": self._random_hex(8)}, separators=(",", ":")).encode()
        key = self._keys.session(session.owner, session.id)
        try:
            etag = await self._store.put_small(
                key, body, headers=_JSON, condition=condition if self._conditional else None
            )
        except (ConditionFailed, Transient) as error:
            written = await self._store.get_small(key, _MAX_BYTES)
            if written is not None and written.body == body:
                etag = written.etag
            elif isinstance(error, ConditionFailed):
                return None
            else:
                raise
        return Kept(session=session, etag=etag, age=timedelta())


def _to_json(session: Session) -> dict[str, object]:
    return {
        "v": _VERSION,
        "id": session.id,
        "owner": session.owner,
        "key": session.key,
        "file_hash": str(session.file_hash),
        "size": session.size,
        "part_size": session.part_size,
        "nonce": session.nonce,
        "state": session.state,
        "created": session.created.timestamp(),
        "expires": session.expires.timestamp(),
        "store_upload_id": session.store_upload_id,
        "holder": session.holder,
        "version": session.version,
        "copying": session.copying,
        "md5": session.md5,
        "streamed": session.streamed,
    }


_FIELDS = tuple(field.name for field in fields(Session))


def _from_json(body: bytes, session_id: str) -> Session:
    try:
        tree: dict[str, Any] = json.loads(body)
        if tree["v"] != _VERSION:
            raise Permanent(
                f"the session record {session_id} is of another version of Putgate and is left alone",
                code="RecordUnknown",
            )
        # What a newer version may have added is left alone.
        known = {name: tree[name] for name in _FIELDS if name in tree}
        known["file_hash"] = FileHash.parse(known["file_hash"])
        for moment in ("created", "expires"):
            known[moment] = datetime.fromtimestamp(known[moment], UTC)
        return Session(**known)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Permanent(
            f"the session record {session_id} is damaged; remove it to let its upload begin anew", code="RecordDamaged"
        ) from error
