"""An upload id that came back, opened and checked against the caller: the beginning of every late call."""

from __future__ import annotations

from dataclasses import dataclass

from putgate_api.auth.access import refusal, require
from putgate_api.auth.caller import Caller
from putgate_api.records.sessions import Kept, Session, SessionOf, stream_id
from putgate_api.upload_id import UploadToken
from putgate_api.uploads.bucket import Bucket
from putgate_protocol.parts import PartPlan
from putgate_protocol.problems import Problem, problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A token of this bucket and this caller, who may still upload under its name."""

    upload_id: str
    token: UploadToken
    key: str
    plan: PartPlan
    session_id: str


def open_upload_id(bucket: Bucket, caller: Caller, upload_id: str) -> Opened:
    """Raises `upload_id_invalid`, `upload_expired`, `forbidden`."""
    token = bucket.sealer.open_upload(upload_id, bucket_id=bucket.facts.bucket_id, now=bucket.now())
    if token.owner != caller.owner:
        raise refusal(caller, "upload", token.name, "not_owner", "this upload was begun by somebody else")
    require(caller, "upload", token.name, token.size)
    key = bucket.key(token.name)
    return Opened(
        upload_id=upload_id,
        token=token,
        key=key,
        plan=PartPlan(size=token.size, part_size=token.part_size),
        session_id=_session_id(token, key),
    )


def _session_id(token: UploadToken, key: str) -> str:
    if token.commit == "stream":
        return stream_id(token.owner, key, token.nonce)
    return SessionOf(
        owner=token.owner,
        key=key,
        name=token.name,
        file_hash=token.file_hash,
        part_size=token.part_size,
        if_absent=token.if_absent,
        if_match=token.if_match,
    ).id


async def session_of(bucket: Bucket, opened: Opened) -> Kept | None:
    return await bucket.sessions.get(opened.token.owner, opened.session_id)


def check_not_expired(bucket: Bucket, opened: Opened, session: Session) -> None:
    if session.expires <= bucket.now():
        raise problem("upload_expired", f"the upload of {opened.token.name} has ended; initiate it again")


def gone(opened: Opened) -> Problem:
    return problem("upload_gone", f"there is no such upload of {opened.token.name} any more; initiate it again")
