"""Abort: give up an upload. Idempotent; never harms a file that was published."""

from __future__ import annotations

from putgate_api.auth.caller import Caller
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.content import Content
from putgate_api.uploads.ending import drop_session
from putgate_api.uploads.opened import open_upload_id, session_of
from putgate_api.uploads.session import busy
from putgate_protocol.messages.abort import AbortAnswer, AbortRequest
from putgate_protocol.problems import problem

_ROUNDS = 4


async def abort(bucket: Bucket, caller: Caller, request: AbortRequest) -> AbortAnswer:
    opened = open_upload_id(bucket, caller, request.upload_id)
    if opened.token.commit == "put":
        return AbortAnswer()
    for _ in range(_ROUNDS):
        kept = await session_of(bucket, opened)
        if kept is None:
            return AbortAnswer()
        if kept.session.state == "done":
            raise problem("upload_gone", f"the upload of {opened.token.name} was completed; there is nothing to abort")
        if kept.session.state in {"completing", "aborting"} and not kept.lapsed():
            raise busy(opened.token.name.encoded)
        held = await bucket.sessions.move(kept, state="aborting", holder=bucket.random_hex(8))
        if held is None:
            continue
        head = await bucket.store.head(opened.key)
        content = None if head is None else Content.of(head)
        if head is not None and content is not None and content.nonce == kept.session.nonce:
            await bucket.sessions.move(held, state="done", holder="", version=head.etag)
            raise problem("upload_gone", f"the upload of {opened.token.name} was completed; there is nothing to abort")
        await drop_session(bucket, held)
        return AbortAnswer()
    raise busy(opened.token.name.encoded)
