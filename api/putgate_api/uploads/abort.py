"""Abort: give up an upload. Idempotent; never harms a file that was published."""

from __future__ import annotations

from putgate_api.auth.caller import Caller
from putgate_api.records.sessions import Kept
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.ending import drop_session
from putgate_api.uploads.opened import Opened, open_upload_id, session_of
from putgate_api.uploads.orphans import busy
from putgate_protocol.messages.abort import AbortAnswer, AbortRequest
from putgate_protocol.problems import problem

_ROUNDS = 4


async def abort(bucket: Bucket, caller: Caller, request: AbortRequest) -> AbortAnswer:
    opened = open_upload_id(bucket, caller, request.upload_id)
    if opened.token.commit == "put":
        return AbortAnswer()
    for _ in range(_ROUNDS):
        async with bucket.sessions.alone(opened.token.owner, opened.session_id):
            kept = await session_of(bucket, opened)
            if kept is None or await _drop(bucket, opened, kept):
                return AbortAnswer()
    raise busy(opened.token.name.encoded)


async def _drop(bucket: Bucket, opened: Opened, kept: Kept) -> bool:
    """Whether the session is gone; False when somebody else has moved it on meanwhile."""
    completed = problem("upload_gone", f"the upload of {opened.token.name} was completed; there is nothing to abort")
    if kept.session.state == "done":
        raise completed
    if kept.session.state != "open" and not kept.lapsed():
        raise busy(opened.token.name.encoded, kept.remaining())
    held = await bucket.sessions.move(kept, state="aborting", holder=bucket.random_hex(8))
    if held is None:
        return False
    if not await drop_session(bucket, held):
        raise completed
    return True
