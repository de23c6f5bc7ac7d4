"""What every way of uploading needs, made once per client: the wire, the sender, threads and limits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from putgate.options import Options
from putgate.upload.progress import NoProgress, Progress
from putgate.upload.put import Sender
from putgate.wire import Completed, Wire
from putgate_protocol.names import Name

OnBytes = Callable[[Name, int], None]
"""Hears of bytes of a file as they are done, and of fewer when a PUT failed (a negative number)."""


def unheard(name: Name, count: int) -> None:
    """Nobody asked."""


class Budget:
    """Bytes that may be held at once. First come, first served, so that a large wish is not starved."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._total = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, wanted: int) -> int:
        """Wait until `wanted` bytes are free and take them; more than there ever are counts as all of them."""
        wanted = min(wanted, self._total)
        if self._waiting or wanted > self._free:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((wanted, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.give(wanted)
                else:
                    self._waiting = deque(entry for entry in self._waiting if entry[1] is not turn)
                    self.give(0)
                raise
        else:
            self._free -= wanted
        return wanted

    def give(self, count: int) -> None:
        """Give bytes back."""
        self._free += count
        while self._waiting and self._waiting[0][0] <= self._free:
            wanted, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= wanted
                turn.set_result(None)


class Share:
    """What one run has taken of a budget. `close` gives back what is left of it, wherever the run was cut off."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0

    async def take(self, wanted: int) -> int:
        taken = await self._budget.take(wanted)
        self._held += taken
        return taken

    def give(self, count: int) -> None:
        self._held -= count
        self._budget.give(count)

    def close(self) -> None:
        self.give(self._held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """`pool`: threads that read, `hashers`: threads that hash. `slots`: PUTs at once. `complete`: one call of complete,
    or one that shares a batch with others.
    """

    wire: Wire
    sender: Sender
    pool: Executor
    hashers: Executor
    options: Options
    slots: asyncio.Semaphore
    memory: Budget
    complete: Callable[[str], Awaitable[Completed]]
    progress: Progress = field(default_factory=NoProgress)
    on_bytes: OnBytes = unheard
    on_hashed: OnBytes = unheard
