"""Sign again: fresh signatures for parts of an open session. The digests come from the session's own record."""

from __future__ import annotations

from putgate_api.auth.caller import Caller
from putgate_api.records.sessions import Kept
from putgate_api.uploads.bucket import MAX_SIGNED_PARTS, Bucket
from putgate_api.uploads.declared import check_open
from putgate_api.uploads.opened import Opened, check_not_expired, gone, open_upload_id, session_of
from putgate_api.uploads.orphans import busy
from putgate_api.uploads.session import digests_of, extend_read, store_upload
from putgate_api.uploads.signing import sign_parts
from putgate_protocol.messages.sign import SignAnswer, SignRequest
from putgate_protocol.problems import problem


async def sign(bucket: Bucket, caller: Caller, request: SignRequest) -> SignAnswer:
    opened = open_upload_id(bucket, caller, request.upload_id)
    if opened.token.commit == "stream":
        raise problem("request_invalid", "a stream's parts are signed by declaring them: send `parts`")
    numbers = _numbers(opened, request.part_numbers)
    if opened.token.commit == "put":
        raise problem("part_number_invalid", "a file that one PUT commits is initiated again, never signed again")
    kept = await signable(bucket, opened)
    digests = await digests_of(bucket, kept.session)
    if digests is None:
        raise gone(opened)
    await extend_read(bucket, kept.session)
    parts = await sign_parts(bucket, store_upload(kept.session), opened.plan, digests, numbers)
    return SignAnswer.model_construct(upload_id=request.upload_id, parts=parts)


async def signable(bucket: Bucket, opened: Opened) -> Kept:
    """The open session of an upload. Raises `not_ready`, `upload_gone`, `upload_busy`, `upload_expired`."""
    check_open(bucket)
    kept = await session_of(bucket, opened)
    if kept is None or kept.session.state in {"aborting", "done"}:
        raise gone(opened)
    if kept.session.state != "open":
        raise busy(opened.token.name.encoded)
    check_not_expired(bucket, opened, kept.session)
    return kept


def _numbers(opened: Opened, numbers: list[int]) -> list[int]:
    if len(numbers) > MAX_SIGNED_PARTS:
        raise problem("part_number_invalid", f"{len(numbers)} parts were asked for; one call signs {MAX_SIGNED_PARTS}")
    if len(set(numbers)) != len(numbers):
        raise problem("part_number_invalid", "a part number was given twice")
    if not all(1 <= number <= opened.plan.count for number in numbers):
        raise problem("part_number_invalid", f"part numbers of {opened.token.name} lie within 1…{opened.plan.count}")
    return numbers
