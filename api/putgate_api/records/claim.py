"""`claim.json`: in whose name a bucket and prefix are used, so that two never use them at once without knowing.

Whoever comes first has it, and has it again after being deleted and made anew under the same name. It also remembers
whether Putgate created the bucket: only then may Putgate ever remove it. A claim is replaced only by somebody who
names its id, which they can know only from the message that refused them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from putgate_api.records.bucket import BucketDisagrees
from putgate_api.records.keys import RecordKeys
from putgate_protocol.settings.api import Claimant
from putgate_storage.errors import ConditionFailed, Transient, Unsupported
from putgate_storage.store import Condition, IfAbsent, IfMatch, ObjectHeaders, Store

_MAX_BYTES = 16 * 1024
_JSON = ObjectHeaders(content_type="application/json")


_Short = Annotated[str, Field(min_length=1, max_length=128)]


class BucketInUse(Exception):
    """Somebody else has claimed the bucket and prefix; the message says who, and how to take it over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """`created`: whether this claimant's API created the bucket. In doubt it did not."""

    id: _Short
    namespace_uid: _Short
    namespace: _Short
    name: _Short
    created: bool
    version: Literal[1] = 1

    def is_of(self, claimant: Claimant) -> bool:
        return (self.namespace_uid, self.name) == (claimant.namespace_uid, claimant.name)


_CLAIM = TypeAdapter(Claim)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptClaim:
    """A claim as it stands in the bucket."""

    claim: Claim
    etag: str


async def ensure_claim(
    store: Store,
    keys: RecordKeys,
    claimant: Claimant,
    *,
    created: bool,
    take_over: str | None,
    random_hex: Callable[[int], str],
) -> Claim:
    """The claim that holds, which is the claimant's. Raises `BucketInUse`, `BucketDisagrees`, `StoreError`.

    `created`: whether the bucket was seen absent and then created just now. `take_over`: the id of a claim to replace.
    """

    def mine(*, made: bool) -> Claim:
        return Claim(id=random_hex(16), **claimant.model_dump(), created=made)

    kept = await read_claim(store, keys)
    if kept is None:
        kept = await _written(store, keys, mine(made=created), IfAbsent())
    elif kept.claim.id == take_over and not kept.claim.is_of(claimant):
        kept = await _written(store, keys, mine(made=False), IfMatch(etag=kept.etag))
    if kept.claim.is_of(claimant):
        return kept.claim
    raise in_use(kept.claim)


def in_use(claim: Claim) -> BucketInUse:
    return BucketInUse(
        f"claim {claim.id} of {claim.namespace}/{claim.name} holds this bucket and prefix: use another "
        f"prefix, or, when that one is gone for good, set takeOver: {claim.id}"
    )


async def read_claim(store: Store, keys: RecordKeys) -> KeptClaim | None:
    """Raises `BucketDisagrees` for a record that nobody can read."""
    found = await store.get_small(keys.claim, _MAX_BYTES)
    if found is None:
        return None
    try:
        claim = _CLAIM.validate_json(found.body, strict=True)
    except ValidationError:
        raise BucketDisagrees(f"{keys.claim} is not a record of this version of Putgate") from None
    return KeptClaim(claim=claim, etag=found.etag)


async def restore_claim(store: Store, keys: RecordKeys, claim: Claim) -> None:
    """Write a claim that was removed a moment ago, unless there is another now."""
    with contextlib.suppress(ConditionFailed):
        await _put(store, keys, claim, IfAbsent())


async def _written(store: Store, keys: RecordKeys, claim: Claim, condition: Condition) -> KeptClaim:
    """Write and read back: somebody else may be first, or our answer be lost, and then the bucket says what holds."""
    with contextlib.suppress(ConditionFailed, Transient):
        await _put(store, keys, claim, condition)
    kept = await read_claim(store, keys)
    if kept is None:
        raise Transient("claim.json was written and is not there", code="RecordMissing")
    return kept


async def _put(store: Store, keys: RecordKeys, claim: Claim, condition: Condition) -> None:
    body = json.dumps(asdict(claim), indent=1).encode()
    try:
        await store.put_small(keys.claim, body, headers=_JSON, condition=condition)
    except Unsupported:
        # Without conditional writes the last of several wins; reading back tells the others, but for a moment.
        await store.put_small(keys.claim, body, headers=_JSON)
