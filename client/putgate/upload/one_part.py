"""One part into the store, tried again for as long as that may help: what each answer means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from putgate.errors import StoreRefused, Unreachable
from putgate.retry import lost, persist
from putgate.store_answer import StoreAnswer
from putgate.upload.means import Means
from putgate.upload.signatures import SignAgain, Signatures
from putgate.upload.source import Reading
from putgate_protocol.messages.base import SignedPart
from putgate_protocol.names import Name
from putgate_protocol.parts import Part

REFUSALS = 5
"""How often one part may be refused (403, or 400 for bytes spoilt on the way) before that is final."""

LOST = 3
"""After so many lost connections a URL is signed anew: its 403 may be what got lost."""


class UploadVanished(StoreRefused):
    """The store knows the upload no more; initiating again heals it."""


class OnePart:
    """`part` of `reading`, which is the file `name`, under what `signatures` holds for it."""

    def __init__(self, means: Means, signatures: Signatures, name: Name, reading: Reading, part: Part) -> None:
        self._means = means
        self._signatures = signatures
        self._name = name
        self._reading = reading
        self._part = part
        self._refused = 0
        self._unanswered = 0

    async def send(self, sign: Callable[[], Awaitable[SignedPart]]) -> None:
        """Send it until it is stored, each time with what `sign` gives.

        Raises `UploadVanished` and every other `ClientError`, `OSError`, `Problem`.
        """

        async def once() -> None:
            async with self._means.slots:
                await self._put(await sign())

        try:
            await persist(once, self._means.options.give_up_after, _again)
        except SignAgain as error:
            raise StoreRefused(f"{self._name}: {error}", status=error.status) from None

    async def _put(self, signed: SignedPart) -> None:
        try:
            answer = await self._means.sender.put(signed, self._reading, self._part, self._on_bytes)
        except Unreachable:
            self._unanswered += 1
            if self._unanswered % LOST == 0:
                self._signatures.drop(self._part.number)
            raise
        if not answer.ok:
            await self._judge(answer)

    async def _judge(self, answer: StoreAnswer) -> None:
        """Raise what to do about a part that is not stored."""
        why = f"part {self._part.number}: the store answered {answer}"
        what = f"{self._name}: {why}"
        if answer.status == 404:
            raise UploadVanished(what, status=404)
        if answer.passes:
            if answer.outdated:
                self._signatures.drop(self._part.number)
            raise Unreachable(what, retry_after=answer.retry_after)
        self._refused += 1
        if answer.status not in (400, 403) or self._refused > REFUSALS:
            raise StoreRefused(what, status=answer.status)
        if answer.status == 403:
            self._signatures.drop(self._part.number)
        else:
            # Other bytes than were declared arrived: spoilt on the way, or the source is not what it was.
            await asyncio.get_running_loop().run_in_executor(self._means.pool, self._reading.check)
        raise SignAgain(why, status=answer.status)

    def _on_bytes(self, count: int) -> None:
        self._means.on_bytes(self._name, count)


def _again(error: Exception) -> float | None:
    return 0.0 if isinstance(error, SignAgain) else lost(error)
