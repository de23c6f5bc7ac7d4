"""The parts of one upload: which are missing, under whose signatures they go, and what each answer means.

Signed parts come in pages because their URLs live only minutes; more are asked for when their turn comes. A 403 or
an expiry costs one call of auth_sign for that part alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from putgate.errors import StoreRefused, Unreachable
from putgate.retry import lost, persist
from putgate.store_answer import StoreAnswer
from putgate.upload.means import Means
from putgate.upload.prepare import Prepared
from putgate_protocol.messages.base import SignedPart
from putgate_protocol.messages.initiate import Upload

PAGE = 256
"""Part numbers per auth_sign: 2 GiB of parts, so that a slow line rarely lets a page expire."""

REFUSALS = 5
"""How often one part may be refused (403, or 400 for bytes spoilt on the way) before that is final."""

LOST = 3
"""After so many lost connections a URL is signed anew: its 403 may be what got lost."""

MARGIN = 5.0
"""Seconds before its end from which on a URL is not used: the request must still reach the store."""


class UploadVanished(Exception):
    """The store knows the upload no more; initiating again heals it."""


class SignAgain(Exception):
    """The part is to be tried again, perhaps under a new signature."""


class Signatures:
    """Signed requests with the end of each on this machine's monotonic clock; a server's clock is not compared."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[SignedPart, float]] = {}

    def add(self, signed: Iterable[SignedPart]) -> None:
        now = asyncio.get_running_loop().time()
        for part in signed:
            life = part.expires_in - min(MARGIN, part.expires_in / 10)
            self._held[part.part_number] = (part, now + life)

    def live(self, number: int) -> SignedPart | None:
        held = self._held.get(number)
        return held[0] if held is not None and asyncio.get_running_loop().time() < held[1] else None

    def was_signed(self, number: int) -> bool:
        return number in self._held

    def drop(self, number: int) -> None:
        """Keeps the note that there was one."""
        if number in self._held:
            self._held[number] = (self._held[number][0], 0.0)


class Parts:
    """Sends parts of one upload, several at once. `signatures`: those that came with the upload."""

    def __init__(self, means: Means, prepared: Prepared, upload: Upload, signatures: Signatures) -> None:
        self._means = means
        self._prepared = prepared
        self._signing = asyncio.Lock()
        self._signatures = signatures
        self._held = {held.part_number: held.length for held in upload.uploaded}
        self.upload_id = upload.upload_id
        self.sent_bytes = 0

    def missing(self) -> list[int]:
        """Numbers of the parts that the store did not hold, at their right length, when it was last asked."""
        return [part.number for part in self._prepared.plan if self._held.get(part.number) != part.length]

    async def send(self, numbers: Sequence[int]) -> None:
        """Send these parts. The first that cannot be sent ends it for all.

        Raises `UploadVanished`, `StoreRefused`, `Unreachable`, `SourceChanged`, `OSError`, `Problem`.
        """
        waiting = iter(numbers)
        rest = list(numbers)

        async def worker() -> None:
            for number in waiting:
                await self._send_one(number, rest)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(numbers), self._means.options.parts_at_once)):
                    group.create_task(worker())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _send_one(self, number: int, wanted: Sequence[int]) -> None:
        refused = 0
        unanswered = 0
        part = self._prepared.plan.part(number)

        async def once() -> None:
            nonlocal refused, unanswered
            async with self._means.slots:
                signed = await self._signed(number, wanted)
                try:
                    answer = await self._means.sender.put(signed, self._prepared.reading, part, self._on_bytes)
                except Unreachable:
                    unanswered += 1
                    if unanswered % LOST == 0:
                        self._signatures.drop(number)
                    raise
            refused += answer.status in (400, 403)
            await self._judge(number, answer, refused)

        await persist(once, self._means.options.give_up_after, _again)
        self.sent_bytes += part.length

    async def _judge(self, number: int, answer: StoreAnswer, refused: int) -> None:
        """Return where the part is stored, else raise what to do about it."""
        if answer.ok:
            return
        what = f"{self._prepared.job.name}: part {number}: the store answered {answer}"
        if answer.status == 404:
            raise UploadVanished(what)
        if answer.passes:
            if answer.outdated:
                self._signatures.drop(number)
            raise Unreachable(what, retry_after=answer.retry_after)
        if answer.status in (400, 403) and refused <= REFUSALS:
            if answer.status == 403:
                self._signatures.drop(number)
            else:
                # Other bytes than were declared arrived: spoilt on the way, or the source is not what it was.
                await asyncio.get_running_loop().run_in_executor(self._means.pool, self._prepared.reading.check)
            raise SignAgain(what)
        raise StoreRefused(what, status=answer.status)

    async def _signed(self, number: int, wanted: Sequence[int]) -> SignedPart:
        if (signed := self._signatures.live(number)) is not None:
            return signed
        if self._signatures.was_signed(number):
            await self._sign([number])
        else:
            async with self._signing:
                if not self._signatures.was_signed(number):
                    await self._sign(self._page(number, wanted))
        signed = self._signatures.live(number)
        if signed is None:
            raise SignAgain(f"{self._prepared.job.name}: part {number}: its new signature is of no use")
        return signed

    def _page(self, number: int, wanted: Sequence[int]) -> list[int]:
        """The part and those after it that are not signed yet."""
        following = (other for other in wanted if other > number and not self._signatures.was_signed(other))
        return [number, *(other for other, _ in zip(following, range(PAGE - 1), strict=False))]

    async def _sign(self, numbers: Sequence[int]) -> None:
        answer = await self._means.wire.sign(self.upload_id, numbers)
        self.upload_id = answer.upload_id
        self._signatures.add(answer.parts)

    def _on_bytes(self, count: int) -> None:
        self._means.on_bytes(self._prepared.job.name, count)


def _again(error: Exception) -> float | None:
    return 0.0 if isinstance(error, SignAgain) else lost(error)
