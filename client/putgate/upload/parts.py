"""The parts of one upload: which are missing, and under whose signatures they go.

Signed parts come in pages because their URLs live only minutes; more are asked for when their turn comes. A 403 or
an expiry costs one call of auth_sign for that part alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from putgate.upload.means import Means
from putgate.upload.one_part import OnePart
from putgate.upload.prepare import Prepared
from putgate.upload.signatures import Signatures
from putgate_protocol.messages.base import SignedPart
from putgate_protocol.messages.initiate import Upload

PAGE = 256
"""Part numbers per auth_sign: 2 GiB of parts, so that a slow line rarely lets a page expire."""


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
        part = self._prepared.plan.part(number)
        one = OnePart(self._means, self._signatures, self._prepared.job.name, self._prepared.reading, part)
        await one.send(lambda: self._signed(number, wanted))
        self.sent_bytes += part.length

    async def _signed(self, number: int, wanted: Sequence[int]) -> SignedPart:
        if (signed := self._signatures.live(number)) is not None:
            return signed
        if self._signatures.was_signed(number):
            await self._sign([number])
        else:
            async with self._signing:
                if not self._signatures.was_signed(number):
                    await self._sign(self._page(number, wanted))
        return self._signatures.new(number)

    def _page(self, number: int, wanted: Sequence[int]) -> list[int]:
        """The part and those after it that are not signed yet."""
        following = (other for other in wanted if other > number and not self._signatures.was_signed(other))
        return [number, *(other for other, _ in zip(following, range(PAGE - 1), strict=False))]

    async def _sign(self, numbers: Sequence[int]) -> None:
        answer = await self._means.wire.sign(self.upload_id, numbers)
        self.upload_id = answer.upload_id
        self._signatures.add(answer.parts)
