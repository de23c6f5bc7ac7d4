"""Parts become signed requests, in pages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from putgate_api.records.parts import Digests
from putgate_api.uploads.bucket import Bucket
from putgate_protocol.messages.base import SignedPart
from putgate_protocol.parts import PartPlan
from putgate_storage.store import PartToSign, SignedRequest, StoreUpload


async def sign_parts(
    bucket: Bucket, upload: StoreUpload, plan: PartPlan, digests: Digests, numbers: Sequence[int]
) -> list[SignedPart]:
    """Signed requests for these part numbers, which lie within the plan."""
    wanted = [plan.part(number) for number in numbers]
    to_sign = [
        PartToSign(
            number=part.number,
            length=part.length,
            sha256=digests.sha256[part.number - 1],
            md5=digests.md5[part.number - 1] if digests.md5 else None,
        )
        for part in wanted
    ]
    signed = await bucket.store.sign_parts(upload, to_sign, bucket.limits.url_ttl)
    now = bucket.now()
    return [
        signed_part(request, number=part.number, offset=part.offset, length=part.length, now=now)
        for part, request in zip(wanted, signed, strict=True)
    ]


def signed_part(request: SignedRequest, *, number: int, offset: int, length: int, now: datetime) -> SignedPart:
    # Our own values need no validation; at ten thousand parts it would cost more than the signatures.
    return SignedPart.model_construct(
        part_number=number,
        method=request.method,
        url=request.url,
        headers=dict(request.headers),
        offset=offset,
        length=length,
        expires_at=request.expires_at,
        expires_in=seconds_until(request.expires_at, now),
    )


def next_page(plan: PartPlan, held: Collection[int], limit: int) -> tuple[list[int], int | None]:
    """The first `limit` part numbers that are not held, and the number after them, or None when there is none."""
    page: list[int] = []
    for number in range(1, plan.count + 1):
        if number in held:
            continue
        if len(page) == limit:
            return page, number
        page.append(number)
    return page, None


def seconds_until(moment: datetime, now: datetime) -> int:
    """Whole seconds, rounded down, so that a client never trusts an expiry too long."""
    return max(0, int((moment - now) / timedelta(seconds=1)))
