"""Completes of many files in few calls: those that wait while one batch is under way form the next.

Only for files of one part; the complete of a large file may take long and must not hold up others.
"""

from __future__ import annotations

import asyncio

from putgate.errors import ClientError
from putgate.retry import passing
from putgate.upload.batching import ENVELOPE, WRAPPING
from putgate.wire import Completed, Wire
from putgate_protocol.messages.batch import MAX_BODY_BYTES, MAX_ITEMS
from putgate_protocol.messages.complete import CompleteAnswer, Copying
from putgate_protocol.problems import Problem


class Confirmations:
    """`complete` from any number of tasks, while one other task is in `run`, which cancelling ends."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._waiting: list[tuple[str, asyncio.Future[Completed]]] = []
        self._stirred = asyncio.Event()

    async def complete(self, upload_id: str) -> Completed:
        """Raises `Problem`, `ClientError`."""
        answered: asyncio.Future[Completed] = asyncio.get_running_loop().create_future()
        self._waiting.append((upload_id, answered))
        self._stirred.set()
        try:
            return await answered
        except Problem as error:
            if passing(error) is None:
                raise
        # Busy or slowed down: an item of a batch is not tried again by the wire, a call of its own is.
        return await self._wire.complete(upload_id)

    async def run(self) -> None:
        while True:
            await self._stirred.wait()
            batch = self._next()
            if not self._waiting:
                self._stirred.clear()
            await self._ask(batch)

    def _next(self) -> list[tuple[str, asyncio.Future[Completed]]]:
        room = MAX_BODY_BYTES - ENVELOPE
        count = 0
        for upload_id, _ in self._waiting[:MAX_ITEMS]:
            room -= len(upload_id.encode()) + len('{"upload_id":""}') + WRAPPING
            if room < 0:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _ask(self, batch: list[tuple[str, asyncio.Future[Completed]]]) -> None:
        try:
            answers: list[Completed | Problem | ClientError] = [
                *await self._wire.batch_complete([upload_id for upload_id, _ in batch])
            ]
        except (Problem, ClientError) as error:
            answers = [error] * len(batch)
        for (_, answered), answer in zip(batch, answers, strict=True):
            if answered.cancelled():
                continue
            if isinstance(answer, CompleteAnswer | Copying):
                answered.set_result(answer)
            else:
                answered.set_exception(answer)
