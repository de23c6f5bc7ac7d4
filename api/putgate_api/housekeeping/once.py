"""What has to hold before a program that does not serve a bucket may clean it up: it is ours, and it has been served.

Nothing is written here but, where no recent result stands, the probe's.
"""

from __future__ import annotations

from putgate_api.prepare.probing import Grants
from putgate_api.prepare.steps import Means, Prepared, bucket_facts, bucket_is_there, probed
from putgate_api.prepare.trouble import Unfit
from putgate_api.records.claim import BucketInUse, read_claim
from putgate_storage.errors import Permanent
from putgate_storage.store import Store


async def prepared_to_clean(store: Store, means: Means) -> Prepared | None:
    """None: no Putgate has ever served this bucket and prefix. Raises `BucketInUse`, `BucketDisagrees`, `Unfit`,
    `StoreError`.
    """
    if not await bucket_is_there(store, means.keys):
        raise Permanent(f"there is no bucket {means.settings.storage.s3.bucket}", code="NoSuchBucket")
    if await store.head(means.keys.bucket) is None:
        return None
    claimant, kept = means.settings.storage.claimant, await read_claim(store, means.keys)
    if claimant is not None and kept is not None and not kept.claim.is_of(claimant):
        raise BucketInUse(f"this bucket and prefix are claimed by {kept.claim.namespace}/{kept.claim.name}")
    report = await probed(store, means)
    if not Grants.of(report).conditional_put:
        raise Unfit(
            "the store has no conditional writes that hold, so only the process that serves this bucket may clean it "
            "up, and does so by itself"
        )
    return Prepared(facts=await bucket_facts(store, means, report), report=report, claim=None)
