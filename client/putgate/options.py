"""How a client behaves: one frozen value, given once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta

from putgate_protocol.parts import MIB


def _threads() -> int:
    return max(1, min(4, os.cpu_count() or 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Limits and patience.

    `concurrency`: PUTs, or ranges of downloads, at once. More hides latency; too many only queue in the store.
    `hash_threads`: parts hashed at once; more than there are cores gains nothing.
    `large_files`: how many files of several parts are under way at once in `upload_many`; their parts share
    `concurrency`. Small files never wait for them.
    `give_up_after`: how long what may pass by itself (no connection, 429, 503) is tried again, counted from the
    first failure; None: for ever, as a daemon wants.
    `memory`: bytes of small files held at once. Less throttles many small files; more is only memory.
    `silence`: how long a connection may show no life (no byte taken, no answer) before it is dropped. Too short
    breaks slow completes of huge files; too long hides dead connections.
    """

    concurrency: int = 16
    hash_threads: int = field(default_factory=_threads)
    large_files: int = 2
    give_up_after: timedelta | None = timedelta(minutes=2)
    memory: int = 24 * MIB
    silence: timedelta = timedelta(minutes=2)

    def __post_init__(self) -> None:
        if min(self.concurrency, self.hash_threads, self.large_files, self.memory) < 1:
            raise ValueError("concurrency, hash_threads, large_files and memory are positive")
        if self.silence <= timedelta(0) or (self.give_up_after is not None and self.give_up_after < timedelta(0)):
            raise ValueError("silence is positive, give_up_after is not negative")

    @property
    def parts_at_once(self) -> int:
        """PUTs at once of one file: its share. More only make a near store switch between them."""
        return max(1, self.concurrency // self.large_files)
