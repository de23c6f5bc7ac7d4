"""Remove the bucket that Putgate created, when nobody keeps anything in it any more.

It looks before everything that it takes away, because some stores remove a bucket with all that it holds, and it goes
on where an earlier run was cut off. What it cannot prove to be its own it leaves alone. Nobody may serve the bucket
meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Container
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Literal

from putgate_api.prepare.steps import bucket_is_there
from putgate_api.prepare.trouble import trouble_of
from putgate_api.records.bucket import BucketDisagrees
from putgate_api.records.claim import Claim, read_claim, restore_claim
from putgate_api.records.keys import RecordKeys
from putgate_protocol.settings.api import Storage
from putgate_storage.errors import ConditionFailed, Refused, StoreError, Transient, Unsupported
from putgate_storage.store import (
    IfAbsent,
    ListsUploads,
    ListsVersions,
    ManagesBucket,
    ObjectHeaders,
    Small,
    Store,
    Version,
)

Kind = Literal["removed", "refused", "failed"]

_AT_ONCE = 16
"""Deletions at once: there may be thousands of records, and nobody waits for them."""

_MAX_FACTS = 16 * 1024
_JSON = ObjectHeaders(content_type="application/json")

_CREDENTIALS = frozenset({"SecretMissing", "SecretKeyMissing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """`result`: Removed (also when it was gone already); NotEmpty, Adopted or NotOurs, which stand until somebody
    changes something; CredentialsMissing, or a reason of `prepare.trouble`, where the store did not let us.
    """

    result: str
    message: str

    @property
    def kind(self) -> Kind:
        match self.result:
            case "Removed":
                return "removed"
            case "NotEmpty" | "Adopted" | "NotOurs":
                return "refused"
            case _:
                return "failed"

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class _Refusal(Exception):
    def __init__(self, result: str, message: str) -> None:
        super().__init__(message)
        self.removal = Removal(result=result, message=message)


def failed(error: StoreError, storage: Storage) -> Removal:
    """A failure of the store as a result."""
    found = trouble_of(error, storage)
    result = "CredentialsMissing" if found.reason in _CREDENTIALS else found.reason
    return Removal(result=result, message=found.message)


async def remove_bucket(
    store: Store, storage: Storage, pause: timedelta = timedelta(0), *, known: str | None = None
) -> Removal:
    """`pause`: between the first look and the others, for URLs that were signed before and may still be used.
    `known`: the id of the claim by which the caller knows that this claimant's API created the bucket. A removal that
    was cut off after its last record leaves a bucket without claim, which only the caller then knows to be ours.
    Raises `StoreError`.
    """
    keys, bucket = RecordKeys(storage.prefix), storage.s3.bucket
    if not isinstance(store, ManagesBucket):
        raise Unsupported("this driver cannot remove buckets", code="NotManaging")
    if not await bucket_is_there(store, keys):
        return Removal(result="Removed", message=f"bucket {bucket} is gone already")
    try:
        claim = await _own_claim(store, keys, storage, known)
        await _check_empty(store, keys)
        await asyncio.sleep(pause.total_seconds())
        await _check_empty(store, keys)
        await _delete_records(store, keys, but=(keys.claim, keys.bucket))
        await _check_empty(store, keys)
        facts = await store.get_small(keys.bucket, _MAX_FACTS)
        await _delete_records(store, keys, but=(keys.claim,))
        try:
            await _check_empty(store, keys)
        except _Refusal:
            await _restore(store, keys.bucket, facts)
            raise
        await _delete_records(store, keys, but=())
        await _delete_bucket(store, keys, claim, facts)
    except _Refusal as refusal:
        return refusal.removal
    return Removal(result="Removed", message=f"bucket {bucket} is removed")


async def _own_claim(store: Store, keys: RecordKeys, storage: Storage, known: str | None) -> Claim:
    bucket = storage.s3.bucket
    if storage.management == "Observe" or storage.claimant is None:
        raise _Refusal("Adopted", f"the settings do not claim bucket {bucket}; it is kept")
    try:
        kept = await read_claim(store, keys)
    except BucketDisagrees as error:
        raise _Refusal("NotOurs", str(error)) from None
    if kept is None and known is not None and await _is_bare(store):
        return Claim(id=known, **storage.claimant.model_dump(), created=True)
    if kept is None:
        raise _Refusal("Adopted", f"no claim says that Putgate created bucket {bucket}; it is kept")
    if not kept.claim.is_of(storage.claimant):
        whose = f"{kept.claim.namespace}/{kept.claim.name}"
        raise _Refusal("NotOurs", f"bucket {bucket} is claimed by {whose} (claim {kept.claim.id}); it is kept")
    if not kept.claim.created:
        raise _Refusal("Adopted", f"bucket {bucket} was there before Putgate; it is kept")
    return kept.claim


async def _is_bare(store: Store) -> bool:
    """Whether it holds nothing at all: the claim is the last record that a removal deletes."""
    async for _ in _objects(store, ""):
        return False
    async for _ in _versions(store, ""):
        return False
    return True


async def _check_empty(store: Store, keys: RecordKeys) -> None:
    """Raises `_Refusal` for anything that is not a record of ours. It never reads on past the first such thing."""
    async for key in _objects(store, ""):
        if not key.startswith(keys.own):
            raise _not_empty(f"holds objects, {key!r} for one")
    async for version in _versions(store, ""):
        if not version.key.startswith(keys.own):
            raise _not_empty(f"keeps versions or delete markers of objects, of {version.key!r} for one")
    if isinstance(store, ListsUploads):
        for found in await store.list_uploads(""):
            if not found.upload.key.startswith(keys.own):
                raise _not_empty(f"has open uploads, of {found.upload.key!r} for one; abort them or let them expire")


def _not_empty(what: str) -> _Refusal:
    return _Refusal("NotEmpty", f"the bucket {what}; it is kept")


async def _delete_records(store: Store, keys: RecordKeys, *, but: Container[str]) -> None:
    """Our own objects and every version of them, and what a probe that was killed has left open."""
    if isinstance(store, ListsUploads):
        for found in await store.list_uploads(keys.own):
            await store.abort(found.upload)
    await _all(store, [key async for key in _objects(store, keys.own) if key not in but])
    # In a bucket with versioning the deletions above are markers, which are listed now.
    await _all(store, [version async for version in _versions(store, keys.own) if version.key not in but])


async def _all(store: Store, things: list[str] | list[Version]) -> None:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def delete(thing: str | Version) -> None:
        async with slots:
            if isinstance(thing, str):
                await store.delete(thing)
            elif isinstance(store, ListsVersions):
                await store.delete_version(thing)

    for outcome in await asyncio.gather(*map(delete, things), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def _restore(store: Store, key: str, facts: Small | None) -> None:
    """What is kept keeps its part rule too."""
    if facts is not None:
        with contextlib.suppress(ConditionFailed):
            await store.put_small(key, facts.body, headers=_JSON, condition=IfAbsent())


async def _delete_bucket(store: Store, keys: RecordKeys, claim: Claim, facts: Small | None) -> None:
    """A bucket that stays gets its records back, so that it is still known as ours."""
    assert isinstance(store, ManagesBucket)
    try:
        await store.delete_bucket()
    except Transient:
        # It may have happened: writing the claim then could bring the bucket back on some stores.
        if await bucket_is_there(store, keys):
            await restore_claim(store, keys, claim)
            await _restore(store, keys.bucket, facts)
            raise
    except Refused as error:
        await restore_claim(store, keys, claim)
        await _restore(store, keys.bucket, facts)
        raise _not_empty(f"is not empty, says the store ({error.code})") from None
    except StoreError:
        await restore_claim(store, keys, claim)
        await _restore(store, keys.bucket, facts)
        raise


async def _objects(store: Store, prefix: str) -> AsyncIterator[str]:
    token: str | None = None
    while True:
        page = await store.list(prefix, token=token)
        for entry in page.entries:
            yield entry.key
        if (token := page.token) is None:
            return


async def _versions(store: Store, prefix: str) -> AsyncIterator[Version]:
    """None where the store cannot list them: then it is the store that refuses to remove what keeps some."""
    if not isinstance(store, ListsVersions):
        return
    token: str | None = None
    while True:
        try:
            page = await store.list_versions(prefix, token=token)
        except Unsupported:
            return
        for version in page.versions:
            yield version
        if (token := page.token) is None:
            return
