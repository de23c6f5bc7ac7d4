"""A complete that may first have to copy: the API copies some parts inside the store with each call.

Nothing is sent meanwhile. The calls are bounded by the file's parts, since each call copies at least one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from putgate.errors import StoreRefused
from putgate.retry import MAX_DELAY
from putgate.wire import Completed
from putgate_protocol.messages.complete import CompleteAnswer, Copying

SPARE = 8
"""Calls beyond one per part: others may copy, and be undone, at the same time."""

Complete = Callable[[str], Awaitable[Completed]]


async def complete_copies(complete: Complete, upload_id: str, parts: int) -> CompleteAnswer:
    """Call `complete` until nothing is left to copy of an upload of so many parts. Raises what it raises."""
    for _ in range(parts + SPARE):
        answer = await complete(upload_id)
        if isinstance(answer, CompleteAnswer):
            return answer
        upload_id = answer.upload_id
        await pause(answer)
    raise StoreRefused("the server copies the same parts again and again", status=409)


async def pause(answer: Copying) -> None:
    """As long as the server asks for, and a little longer by chance."""
    await asyncio.sleep(min(answer.retry_after, MAX_DELAY) * random.uniform(1.0, 1.5))
