"""`bucket.json`: what a bucket and prefix keep for their whole life, written once, by whoever comes first.

A client that cut files by another part rule would never find what is stored, so settings that disagree with this
record must not serve.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass

from putgate_api.records.keys import RecordKeys
from putgate_protocol.parts import PartRule
from putgate_storage.errors import ConditionFailed, Transient
from putgate_storage.store import IfAbsent, ObjectHeaders, Store

_MAX_BYTES = 16 * 1024
_FIXED = ("hash_algorithm", "part_size", "max_parts", "layout", "name_encoding")


class BucketDisagrees(Exception):
    """The settings contradict `bucket.json`; the message names each difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketFacts:
    bucket_id: str
    part_size: int
    max_parts: int
    hash_algorithm: str = "sha256"
    layout: str = "Path"
    name_encoding: str = "percent-v1"
    version: int = 1

    @property
    def rule(self) -> PartRule:
        return PartRule(part_size=self.part_size, max_parts=self.max_parts)


async def ensure_bucket_facts(store: Store, keys: RecordKeys, wanted: BucketFacts, *, conditional: bool) -> BucketFacts:
    """The bucket's facts: those that stand, or `wanted` if there are none yet. Raises `BucketDisagrees`.

    `conditional`: whether the store excludes a second writer; without it the record is read again after writing.
    """
    body = json.dumps(asdict(wanted), indent=1).encode()
    if (standing := await _read(store, keys)) is None:
        # Somebody else may be first, or our answer be lost: either way the bucket then says what holds.
        with contextlib.suppress(ConditionFailed, Transient):
            await store.put_small(
                keys.bucket,
                body,
                headers=ObjectHeaders(content_type="application/json"),
                condition=IfAbsent() if conditional else None,
            )
        standing = await _read(store, keys)
    if standing is None:
        raise Transient("bucket.json was written and is not there", code="RecordMissing")
    _compare(standing, wanted)
    return standing


async def _read(store: Store, keys: RecordKeys) -> BucketFacts | None:
    found = await store.get_small(keys.bucket, _MAX_BYTES)
    if found is None:
        return None
    try:
        return BucketFacts(**json.loads(found.body))
    except (ValueError, TypeError):
        raise BucketDisagrees(f"{keys.bucket} is not a record of this version of Putgate") from None


def _compare(standing: BucketFacts, wanted: BucketFacts) -> None:
    differences = [
        f"{field} is {getattr(standing, field)!r} in the bucket and {getattr(wanted, field)!r} in the settings"
        for field in _FIXED
        if getattr(standing, field) != getattr(wanted, field)
    ]
    if differences:
        raise BucketDisagrees(
            "; ".join(differences)
            + ". They are fixed for the bucket's life: change the settings, or use another prefix"
        )
