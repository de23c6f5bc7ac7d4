"""The steps of preparing in their order: bucket, claim, probe, `bucket.json`; and the clean-up rule that gates nothing.

Each either succeeds or raises what `trouble` turns into words; none retries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from putgate_api.prepare.probing import adoptable
from putgate_api.prepare.trouble import Unfit
from putgate_api.records.bucket import BucketFacts, ensure_bucket_facts
from putgate_api.records.claim import Claim, ensure_claim
from putgate_api.records.keys import RecordKeys
from putgate_api.records.probe import ProbedWith, read_probe, write_probe
from putgate_protocol.settings.api import ApiSettings
from putgate_storage.errors import Permanent, Refused, StoreError, Transient, Unsupported
from putgate_storage.probe.report import ProbeReport
from putgate_storage.store import AllowsOrigins, ExpiresUploads, HasCredentials, ManagesBucket, Store

MAX_PARTS = 10_000
"""S3's most parts of an upload; part of the bucket's part rule, so a store that allows fewer cannot raise it later."""

_ONE_PROCESS = (
    "the store has no conditional writes that hold, so run one API process on this bucket, never two; two that claim "
    "it at the same moment may not notice each other"
)


UNVERIFIED = (
    "the store enforces no checksum, so what is stored may be other bytes than were declared, and nobody notices "
    "before a download is compared with its hash; instant upload is off"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """`closed`: why no new upload may begin, where the store was found changed while it is served."""

    facts: BucketFacts
    report: ProbeReport
    claim: Claim | None
    closed: str | None = None

    @property
    def findings(self) -> tuple[str, ...]:
        """In plain words, what an admin should know of this store."""
        conditional = self.report.conditional_put_absent and self.report.conditional_put_match
        verified = self.report.tier != "none"
        return (
            *(() if verified else (UNVERIFIED,)),
            *(() if conditional else (_ONE_PROCESS,)),
            *self.report.findings,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the steps need beside the store. `program`: the version of what probes."""

    settings: ApiSettings
    probe: Callable[[Store], Awaitable[ProbeReport]]
    random_hex: Callable[[int], str]
    program: str

    @property
    def keys(self) -> RecordKeys:
        return RecordKeys(self.settings.storage.prefix)


async def bucket_is_there(store: Store, keys: RecordKeys) -> bool:
    """Look for the bucket. The answer to a HEAD has no body that could say why it is refused, so then a listing asks
    again. Raises `StoreError`; a store that cannot look for its bucket has it.
    """
    if not isinstance(store, ManagesBucket):
        return True
    try:
        return await store.bucket_exists()
    except (Permanent, Refused) as error:
        if not error.code.isdigit():
            raise
    try:
        await store.list(keys.root, limit=1)
    except StoreError as error:
        if error.code == "NoSuchBucket":
            return False
        raise
    return True


async def ensure_bucket(store: Store, means: Means) -> bool:
    """Whether the bucket was absent and was created just now. Raises `StoreError`."""
    if await bucket_is_there(store, means.keys) or not isinstance(store, ManagesBucket):
        return False
    if means.settings.storage.management != "Create":
        raise Permanent("HeadBucket: there is no such bucket", code="NoSuchBucket")
    return await store.create_bucket()


async def take_claim(store: Store, means: Means, *, created: bool) -> Claim | None:
    """None where nobody is named to claim for. Raises `BucketInUse`, `BucketDisagrees`, `StoreError`."""
    storage = means.settings.storage
    if storage.claimant is None:
        return None
    return await ensure_claim(
        store,
        means.keys,
        storage.claimant,
        created=created,
        take_over=storage.take_over,
        random_hex=means.random_hex,
    )


async def probed(store: Store, means: Means) -> ProbeReport:
    """What the store enforces: as recorded by another replica, or seen just now. Raises `Unfit`, `StoreError`."""
    made_with = await probed_with(store, means)
    standing = await read_probe(store, means.keys, made_with)
    if standing is not None and adoptable(standing, store.now()):
        return standing
    report = await means.probe(store)
    check_fit(report, means.settings)
    await write_probe(store, means.keys, made_with, report)
    return report


async def probed_with(store: Store, means: Means) -> ProbedWith:
    s3 = means.settings.storage.s3
    return ProbedWith(
        endpoint=s3.endpoint or "",
        region=s3.region,
        provider=s3.provider,
        addressing_style=s3.addressing_style,
        credentials=(await store.credential_mark()).identity if isinstance(store, HasCredentials) else "",
        program=means.program,
    )


def check_fit(report: ProbeReport, settings: ApiSettings) -> None:
    """Raises `Transient` where the probe has no answer, `Unfit` where the answer is no."""
    if not report.conclusive:
        raise Transient("the store did not answer all of the probe", code="ProbeInconclusive")
    if (why := unfit(report, settings)) is not None:
        raise Unfit(why)


def unfit(report: ProbeReport, settings: ApiSettings) -> str | None:
    """Why nothing may be sent to such a store, if nothing may."""
    if report.tier != "none" or settings.integrity.mode == "Unverified":
        return None
    return (
        "this store enforces neither SHA-256 nor MD5 checksums on what is uploaded, so Putgate cannot vouch for its "
        "content; use another store, or mend this one: " + ("; ".join(report.findings) or f"tier {report.tier}")
    )


async def bucket_facts(store: Store, means: Means, report: ProbeReport) -> BucketFacts:
    """Raises `BucketDisagrees`, `StoreError`."""
    settings = means.settings
    wanted = BucketFacts(
        bucket_id=means.random_hex(16),
        part_size=settings.upload.part_size,
        max_parts=min(MAX_PARTS, store.limits.max_parts),
        layout=settings.layout,
    )
    return await ensure_bucket_facts(store, means.keys, wanted, conditional=report.conditional_put_absent)


async def ensure_expiry(store: Store, settings: ApiSettings) -> None:
    """The store's own clean-up of abandoned uploads. Raises `StoreError`; without it the API still works."""
    prefix, days = settings.storage.prefix, settings.storage.abort_incomplete_after_days
    if not isinstance(store, ExpiresUploads):
        raise Unsupported("this driver knows no such rule", code="NotExpiring")
    await store.ensure_abort_rule(_rule_id("abort", prefix), prefix, days)


async def ensure_cors(store: Store, settings: ApiSettings) -> None:
    """The bucket's rule for web pages, or none where no origin is wanted. Raises `StoreError`; without it the API
    still works, but for pages.
    """
    origins = settings.storage.cors.allowed_origins
    if not isinstance(store, AllowsOrigins):
        if origins:
            raise Unsupported("this driver knows no such rule", code="NoCors")
        return
    try:
        await store.ensure_cors_rule(_rule_id("cors", settings.storage.prefix), origins)
    except (Refused, Permanent):
        # Where nothing is wanted, a store that has no such rules, or shows us none, is as good as one without ours.
        if origins:
            raise


def _rule_id(kind: str, prefix: str) -> str:
    """Of our rule for this prefix: several may share a bucket."""
    return f"putgate-{kind}-{hashlib.sha256(prefix.encode()).hexdigest()[:12]}"
