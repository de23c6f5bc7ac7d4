"""Where the bytes of a declared file are stored already, as far as its caller may use them. Only looks.

What the caller may have is decided by our own record, before the store is asked for anything more: to somebody else
known content must look exactly like unknown content. Every doubt, also a store that does not answer, is a normal
upload: a source saves bytes and is never needed.
"""

from __future__ import annotations

import structlog

from putgate_api.auth.access import may
from putgate_api.auth.caller import Caller
from putgate_api.records.copies import Copies
from putgate_api.records.index import Indexed
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.content import Content
from putgate_api.uploads.declared import Declared
from putgate_api.uploads.registering import scopes
from putgate_api.uploads.streamed import streamed_head
from putgate_protocol.digests import Md5
from putgate_protocol.names import Name
from putgate_protocol.problems import NameProblem
from putgate_storage.errors import StoreError
from putgate_storage.store import Head

log = structlog.get_logger("putgate.api")


async def find_source(bucket: Bucket, declared: Declared, head: Head | None, *, readable: bool) -> Copies | None:
    """What of the file can be copied: all of it from wherever it is, or equal parts from what has its name now, which
    `head` shows. `readable`: the caller may know that.
    """
    if declared.plan.size < bucket.instant_min_size:
        return None
    if declared.conditional and not bucket.abilities.conditional_complete:
        return None
    try:
        found = await _everything(bucket, declared)
        if found is None and head is not None and readable:
            found = await _equal_parts(bucket, declared, head)
        return found
    except StoreError as error:
        log.warning("known content could not be looked for", reason=str(error), code=error.code)
        return None


async def _everything(bucket: Bucket, declared: Declared) -> Copies | None:
    for scope in scopes(bucket, declared.caller.owner):
        if (found := await _whole(bucket, declared, scope)) is not None:
            return found
    return None


async def _whole(bucket: Bucket, declared: Declared, scope: str) -> Copies | None:
    known = await bucket.index.read(scope, declared.file_hash)
    if known is None or (known.size, known.part_size) != (declared.plan.size, declared.plan.part_size):
        return None
    if not may_have(bucket, declared.caller, known.owner, known.name):
        return None
    if not all(map(Md5.is_etag, declared.md5, known.etags)):
        return None
    try:
        key = bucket.key(known.name)
    except NameProblem:
        return None
    head = await streamed_head(bucket.streamed, await bucket.store.head(key))
    stored = None if head is None else Content.of(head)
    if head is None or stored is None or stored.nonce != known.nonce:
        return None
    if not stored.same_bytes(declared.content(known.nonce)) or not stored.checked_by(bucket.abilities.tier):
        return None
    return Copies(
        source=key,
        source_etag=head.etag,
        owner=stored.owner,
        etags=dict(enumerate(known.etags, 1)),
        whole=len(known.etags) == 1,
    )


async def _equal_parts(bucket: Bucket, declared: Declared, head: Head) -> Copies | None:
    """Whole parts at the same place; a part hash stands for length and bytes."""
    older = Content.of(head)
    if older is None or declared.plan.count < 2 or older.size < bucket.instant_min_size:
        return None
    if not older.checked_by(bucket.abilities.tier):
        return None
    if older.part_size != declared.plan.part_size or not may_have(bucket, declared.caller, older.owner, declared.name):
        return None
    known = await _parts_of(bucket, older)
    if known is None:
        return None
    equal = {
        number: etag
        for number, (digest, etag) in enumerate(zip(known.parts, known.etags, strict=False), 1)
        if number <= declared.plan.count
        and digest == declared.parts[number - 1]
        and (not declared.md5 or declared.md5[number - 1].is_etag(etag))
    }
    if not equal:
        return None
    return Copies(
        source=declared.key,
        source_etag=head.etag,
        owner=older.owner,
        etags=equal,
        whole=len(known.etags) == 1,
    )


async def _parts_of(bucket: Bucket, older: Content) -> Indexed | None:
    """What its owner has registered of this content, under whichever name: the same hash stands for the same parts.
    That somebody else has registered it must tell its owner nothing.
    """
    wanted = (older.owner, older.size, older.part_size)
    for scope in scopes(bucket, older.owner):
        known = await bucket.index.read(scope, older.file_hash)
        if known is not None and (known.owner, known.size, known.part_size) == wanted:
            return known
    return None


def may_have(bucket: Bucket, caller: Caller, owner: str, name: Name) -> bool:
    """Whether a caller may be given what `owner` stored under `name`. Where the store checks no SHA-256, an owner may
    have stored other bytes than the file hash names, so that nobody else gets them for it.
    """
    return owner == caller.owner or (bucket.vouches and may(caller, "download", name))
