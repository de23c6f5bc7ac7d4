"""A bucket on a real store, served by this very process: the use cases without a port, a probe or a program."""

from __future__ import annotations

from dataclasses import replace

from putgate_api.records.bucket import BucketFacts
from putgate_api.records.copies import CopyRecords
from putgate_api.records.index import IndexRecords
from putgate_api.records.keys import RecordKeys
from putgate_api.records.parts import PartRecords
from putgate_api.records.sessions import Sessions
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.complete import complete
from putgate_api.uploads.initiate import initiate
from putgate_protocol.messages.complete import CompleteRequest
from putgate_protocol.messages.initiate import Exists, InitiateRequest, Upload
from putgate_storage.store import Store
from tests.api import memory_bucket
from tests.api.calls import RULE, Calls, declaration

MULTIPART = 3
"""The `recheck` from which small files go the multipart way too."""


def store_bucket(store: Store, prefix: str) -> Bucket:
    """As SeaweedFS is served."""
    keys = RecordKeys(prefix)
    made = memory_bucket.bucket(store, conditional_complete=False)
    return replace(
        made,
        prefix=prefix,
        limits=replace(made.limits, instant_min_size=256 * 1024),
        facts=BucketFacts(bucket_id="b" * 32, part_size=RULE.part_size, max_parts=RULE.max_parts),
        sessions=Sessions(store, keys, conditional=True),
        parts=PartRecords(store, keys),
        copies=CopyRecords(store, keys),
        index=IndexRecords(store, keys),
    )


async def begin(served: Bucket, name: str, data: bytes, *, recheck: int = MULTIPART) -> Upload | Exists:
    request = InitiateRequest(**declaration(name, data, recheck=recheck))
    return await initiate(served, memory_bucket.caller(), request)


async def finish(served: Bucket, client: Calls, answer: Upload, data: bytes) -> None:
    """Send what is missing, and complete."""
    assert set(await client.put_parts(answer.model_dump(mode="json"), data)) <= {200}
    done = await complete(served, memory_bucket.caller(), CompleteRequest(upload_id=answer.upload_id))
    assert done.status == "complete"
