"""Before the API serves: the bucket, its clean-up rule, the probe, and what `bucket.json` fixes.

What can heal by itself or by an admin's hand (a store that is down, wrong credentials, a bucket that is not there
yet) is tried again by the caller; what cannot is `Unfit` and ends the program.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from putgate_api.records.bucket import BucketFacts, ensure_bucket_facts
from putgate_api.records.keys import RecordKeys
from putgate_protocol.settings.api import ApiSettings
from putgate_storage.errors import Permanent, Refused, StoreError, Transient
from putgate_storage.probe.report import ProbeReport
from putgate_storage.store import ExpiresUploads, ManagesBucket, Store

MAX_PARTS = 10_000
"""S3's most parts of an upload; part of the bucket's part rule, so a store that allows fewer cannot raise it later."""


class Unfit(Exception):
    """The store, or the settings, must not serve; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """`findings`: in plain words, what an admin should know of this store."""

    facts: BucketFacts
    report: ProbeReport
    findings: tuple[str, ...]


async def prepare(
    store: Store,
    settings: ApiSettings,
    probe: Callable[[], Awaitable[ProbeReport]],
    random_hex: Callable[[int], str],
) -> Prepared:
    """Raises `Unfit`, `BucketDisagrees`, or a `StoreError` that may heal."""
    await _bucket(store, settings)
    findings = await _expiry(store, settings)
    report = await probe()
    _check_tier(report)
    wanted = BucketFacts(
        bucket_id=random_hex(16),
        part_size=settings.upload.part_size,
        max_parts=min(MAX_PARTS, store.limits.max_parts),
        layout=settings.layout,
    )
    facts = await ensure_bucket_facts(
        store, RecordKeys(settings.storage.prefix), wanted, conditional=report.conditional_put_absent
    )
    if not (report.conditional_put_absent and report.conditional_put_match):
        findings += ("the store has no conditional writes that hold, so run one API process on this bucket, never two",)
    return Prepared(facts=facts, report=report, findings=(*findings, *report.findings))


async def _bucket(store: Store, settings: ApiSettings) -> None:
    if not isinstance(store, ManagesBucket) or await store.bucket_exists():
        return
    bucket = settings.storage.s3.bucket
    if settings.storage.management != "Create":
        raise Permanent(
            f"there is no bucket {bucket}: create it, or set storage.management to Create", code="NoSuchBucket"
        )
    await store.create_bucket()


async def _expiry(store: Store, settings: ApiSettings) -> tuple[str, ...]:
    """The store's own clean-up of abandoned uploads; a store without one still works."""
    prefix, days = settings.storage.prefix, settings.storage.abort_incomplete_after_days
    rule_id = f"putgate-abort-{hashlib.sha256(prefix.encode()).hexdigest()[:12]}"
    if not isinstance(store, ExpiresUploads):
        return ("the store does not drop abandoned uploads by itself",)
    try:
        await store.ensure_abort_rule(rule_id, prefix, days)
    except (Refused, Permanent) as error:
        return (f"the store does not drop abandoned uploads by itself: {_reason(error)}",)
    return ()


def _reason(error: StoreError) -> str:
    return f"{error} ({error.code})"


def _check_tier(report: ProbeReport) -> None:
    if not report.conclusive:
        raise Transient("the store did not answer all of the probe", code="ProbeInconclusive")
    if report.tier != "sha256":
        raise Unfit(
            "this store does not enforce SHA-256 checksums on what is uploaded, so Putgate cannot vouch for its "
            "content: " + ("; ".join(report.findings) or f"tier {report.tier}")
        )
