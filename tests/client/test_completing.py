"""Completes that have to copy first: called again, with the newest id, and not for ever."""

from __future__ import annotations

import pytest

from putgate.errors import StoreRefused, Unreachable
from putgate.upload.completing import SPARE, complete_copies
from putgate.wire import Completed
from putgate_protocol.messages.complete import CompleteAnswer, Copying


class Server:
    """Copies for so many calls, each time under a newer id, then completes."""

    def __init__(self, copying: int) -> None:
        self.copying = copying
        self.asked: list[str] = []

    async def complete(self, upload_id: str) -> Completed:
        self.asked.append(upload_id)
        if len(self.asked) > self.copying:
            return CompleteAnswer(status="complete")
        return Copying(upload_id=f"id-{len(self.asked)}", retry_after=0.0)


async def test_it_is_called_until_nothing_is_left_to_copy() -> None:
    server = Server(copying=3)
    assert (await complete_copies(server.complete, "id-0", parts=200)).status == "complete"
    assert server.asked == ["id-0", "id-1", "id-2", "id-3"]


async def test_a_server_that_never_ends_is_given_up() -> None:
    server = Server(copying=1000)
    with pytest.raises(StoreRefused, match="again and again"):
        await complete_copies(server.complete, "id-0", parts=5)
    assert len(server.asked) == 5 + SPARE


async def test_what_goes_wrong_meanwhile_is_the_callers() -> None:
    async def complete(_: str) -> Completed:
        raise Unreachable("gone")

    with pytest.raises(Unreachable):
        await complete_copies(complete, "id", parts=5)
