"""The declared parts of a stream, in the `.parts` of its session: only ever added to, by If-Match.

What is signed for a part is what stands here, and it was written before it was signed. A number's first declaration
stands for good; so however many processes declare at once, one list of parts is all that is ever signed.

A header, then a slot of 56 bytes per part number: SHA-256, MD5 (zeros: none), length; a length of 0: not declared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from putgate_api.records.keys import RecordKeys
from putgate_api.records.sessions import Session
from putgate_protocol.digests import PartHash
from putgate_protocol.messages.base import MAX_PARTS_LISTED
from putgate_protocol.problems import problem
from putgate_storage.errors import ConditionFailed, Permanent, Transient
from putgate_storage.store import IfAbsent, IfMatch, ObjectHeaders, Small, Store

_HEADER = b"stream 1"
_SHA256, _MD5, _LENGTH = 32, 16, 8
_SLOT = _SHA256 + _MD5 + _LENGTH
_MAX_BYTES = len(_HEADER) + MAX_PARTS_LISTED * _SLOT
_BYTES = ObjectHeaders(content_type="application/octet-stream")

_ROUNDS = 8
"""How often a lost race, or a lost answer, of an append is looked at again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPart:
    """One declared part. `md5`: 16 raw bytes, where the caller gave one."""

    number: int
    length: int
    sha256: PartHash
    md5: bytes | None = None


Declared = Mapping[int, StreamPart]


def merged(known: Declared, new: Sequence[StreamPart], part_size: int) -> Declared:
    """Both; raises `part_redeclared` for another declaration of a known number, `part_number_invalid` for parts of
    which one in the midst would be short. Pure.
    """
    whole = dict(known)
    for part in new:
        if whole.setdefault(part.number, part) != part:
            raise problem("part_redeclared", f"part {part.number} was declared with another digest or length")
    last = max(whole)
    for part in whole.values():
        if part.length < part_size and part.number != last:
            raise problem(
                "part_number_invalid",
                f"part {part.number} has {part.length} bytes: only the last part may have less than {part_size}",
            )
    return whole


class StreamParts:
    def __init__(self, store: Store, keys: RecordKeys) -> None:
        self._store = store
        self._keys = keys

    async def begin(self, session: Session) -> None:
        """An empty list, so that every later write has one to match."""
        # The session is new and its id random: only our own write, whose answer got lost, can fail the condition. And
        # without it one that is still on its way could undo what is declared meanwhile.
        with suppress(ConditionFailed):
            await self._store.put_small(self._key(session), _HEADER, headers=_BYTES, condition=IfAbsent())

    async def read(self, session: Session) -> Declared | None:
        found = await self._read(session)
        return None if found is None else _unpacked(found.body, session)

    async def add(self, session: Session, new: Sequence[StreamPart]) -> bool:
        """Whether these parts are declared now, by us or as we would. False: the list is gone.

        Raises the problems of `merged`; `Transient` where the store does not let us know.
        """
        failure: ConditionFailed | Transient | None = None
        for _ in range(_ROUNDS):
            found = await self._read(session)
            if found is None:
                return False
            known = _unpacked(found.body, session)
            whole = merged(known, new, session.part_size)
            if len(whole) == len(known):
                return True
            try:
                await self._store.put_small(
                    self._key(session), _packed(whole), headers=_BYTES, condition=IfMatch(etag=found.etag)
                )
            except (ConditionFailed, Transient) as error:
                # Somebody else was faster, or the answer got lost: what stands there now says which.
                failure = error
            else:
                return True
        raise Transient("the declared parts of a stream could not be written", code="Contended") from failure

    async def _read(self, session: Session) -> Small | None:
        return await self._store.get_small(self._key(session), _MAX_BYTES)

    def _key(self, session: Session) -> str:
        return self._keys.parts(session.owner, session.id)


def _packed(parts: Declared) -> bytes:
    body = bytearray(max(parts) * _SLOT)
    for part in parts.values():
        slot = part.sha256 + (part.md5 or bytes(_MD5)) + part.length.to_bytes(_LENGTH)
        body[(part.number - 1) * _SLOT : part.number * _SLOT] = slot
    return _HEADER + body


def _unpacked(body: bytes, session: Session) -> Declared:
    slots = body[len(_HEADER) :]
    if not body.startswith(_HEADER) or len(slots) % _SLOT:
        raise Permanent(f"the declared parts of session {session.id} are damaged", code="RecordDamaged")
    parts = (_unpacked_part(number, slots[at : at + _SLOT]) for number, at in enumerate(range(0, len(slots), _SLOT), 1))
    return {part.number: part for part in parts if part.length}


def _unpacked_part(number: int, slot: bytes) -> StreamPart:
    md5 = slot[_SHA256 : _SHA256 + _MD5]
    return StreamPart(
        number=number,
        length=int.from_bytes(slot[-_LENGTH:]),
        sha256=PartHash(slot[:_SHA256]),
        md5=md5 if any(md5) else None,
    )
