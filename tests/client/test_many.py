"""How many files become groups: full ones wherever that holds nobody up."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from putgate import BytesSource, Failed, Job, Name
from putgate.errors import Unreachable
from putgate.options import Options
from putgate.upload import many
from putgate.upload.many import Engine
from putgate.upload.means import Budget, Means
from putgate.upload.prepare import Prepared
from putgate.upload.put import Sender
from putgate.wire import Wire
from putgate_protocol.messages.batch import MAX_ITEMS
from putgate_protocol.messages.part_limit import PartLimitAnswer
from putgate_protocol.parts import MIB

LIMIT = PartLimitAnswer(
    hash_algorithm="sha256",
    part_size=8 * MIB,
    max_parts=10_000,
    max_object_size=2**40,
    max_signed_parts=1000,
    put_max_size=8 * MIB,
    instant_min_size=2**40,
    requires_md5=False,
)


class Declared:
    """An API that only counts what is declared to it."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.came = asyncio.Event()

    async def part_limit(self) -> PartLimitAnswer:
        return LIMIT

    async def batch_initiate(self, requests: Sequence[bytes]) -> list[None]:
        self.sizes.append(len(requests))
        self.came.set()
        return [None] * len(requests)


def job(number: int) -> Job:
    return Job(name=Name(b"%d" % number), source=BytesSource(b"%d" % number))


def means_of(api: object, pool: ThreadPoolExecutor) -> Means:
    return Means(
        wire=cast("Wire", api),
        sender=cast("Sender", None),
        pool=pool,
        hashers=pool,
        options=Options(),
        slots=asyncio.Semaphore(16),
        memory=Budget(24 * MIB),
        complete=cast("Any", None),
    )


def test_a_failure_does_not_keep_what_was_at_work() -> None:
    class Bytes:
        """Of a file, as a frame holds them."""

    kept: list[weakref.ref[Bytes]] = []

    def fail() -> None:
        held = Bytes()
        kept.append(weakref.ref(held))
        try:
            raise OSError("first")
        except OSError:
            raise Unreachable("then") from None

    try:
        fail()
    except Unreachable as error:
        failed = Failed(job=job(1), error=error)
    assert str(failed.error) == "then"
    assert kept[0]() is None


async def test_a_run_that_is_left_gives_its_memory_back() -> None:
    class Silent(Declared):
        """An API that takes a batch and does not answer."""

        async def batch_initiate(self, requests: Sequence[bytes]) -> list[None]:
            await super().batch_initiate(requests)
            await asyncio.Event().wait()
            raise AssertionError

    api = Silent()
    with ThreadPoolExecutor(1) as pool:
        means = means_of(api, pool)

        async def jobs() -> AsyncIterator[Job]:
            for number in range(3 * MAX_ITEMS):
                yield Job(name=Name(b"%d" % number), source=BytesSource(bytes(10_000)))

        async def upload() -> None:
            async for _ in Engine(means).upload_many(jobs()):
                raise AssertionError("nothing can have been uploaded")

        running = asyncio.create_task(upload())
        await api.came.wait()
        running.cancel()
        await asyncio.wait([running])
        assert await asyncio.wait_for(means.memory.take(24 * MIB), 1) == 24 * MIB


async def test_a_small_group_waits_while_a_whole_one_is_being_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    api, sent = Declared(), asyncio.Event()

    class Held:
        """A file that is being sent until it is let go."""

        def __init__(self, means: Means, prepared: Prepared, *, first: object) -> None:
            self._job = prepared.job

        async def run(self) -> Failed:
            await sent.wait()
            return Failed(job=self._job, error=Unreachable("let go"))

    monkeypatch.setattr(many, "Delivery", Held)
    with ThreadPoolExecutor(1) as pool:
        means = means_of(api, pool)

        async def jobs() -> AsyncIterator[Job]:
            for number in range(MAX_ITEMS):
                yield job(number)
            await api.came.wait()
            for number in range(MAX_ITEMS, MAX_ITEMS + 10):
                yield job(number)
                # The one thread is through with whatever was begun, and all have had their turns.
                for _ in range(5):
                    await asyncio.get_running_loop().run_in_executor(pool, int)
            sent.set()

        outcomes = [outcome async for outcome in Engine(means).upload_many(jobs())]
    assert len(outcomes) == MAX_ITEMS + 10
    assert api.sizes == [MAX_ITEMS, 10]
