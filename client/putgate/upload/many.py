"""Many files: small ones read and declared in groups, large ones beside them on their own way.

A pipeline of bounded stages: while the PUTs of one group run, the next is read and hashed. One bad file never
stops the rest, and no more jobs are taken in than are under way.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from putgate.upload.batching import Bounds, batches
from putgate.upload.confirm import Confirmations
from putgate.upload.job import Failed, Job, Uploaded
from putgate.upload.means import Means, Share
from putgate.upload.one import Delivery, upload_one
from putgate.upload.prepare import FileError, Large, Prepared, read_group, whole_limit
from putgate.upload.stream import upload_stream
from putgate.wire import Initiated, is_stale_rule
from putgate_protocol.messages.batch import MAX_ITEMS
from putgate_protocol.names import Name
from putgate_protocol.parts import MIB
from putgate_protocol.problems import Problem

UNDER_WAY = 3 * MAX_ITEMS
"""Jobs taken in and not yet answered: one group being read, one being declared, one being sent."""

GROUP_BYTES = 8 * MIB
"""File bytes read at once; several groups share the memory."""

_Outcome = Uploaded | Failed


class Engine:
    """The upload engine. `means` belong to the client that made it and end with it."""

    def __init__(self, means: Means) -> None:
        self._means = means

    async def upload(self, job: Job) -> Uploaded:
        """Upload one file. Raises `Problem`, `ClientError`, `OSError`."""
        return await upload_one(self._means, job)

    async def upload_stream(self, job: Job, stream: BinaryIO, *, size: int | None, part_size: int | None) -> Uploaded:
        """Upload what a stream gives until it ends, under the name of `job`. Raises as `upload`, and `WrongSize`."""
        return await upload_stream(self._means, job, stream, size, part_size)

    async def upload_many(self, jobs: AsyncIterable[Job]) -> AsyncGenerator[Uploaded | Failed, None]:
        """Upload files as their jobs come, in batches; outcomes in any order. Two jobs of one name run one after the
        other. Leaving the iteration cancels what is under way.
        """
        pipeline = _Pipeline(self._means)
        running = asyncio.create_task(pipeline.run(jobs))
        try:
            while (outcome := await pipeline.outcome()) is not None:
                yield outcome
            await running
        finally:
            running.cancel()
            await asyncio.wait([running])


@dataclass(frozen=True, slots=True)
class _Declared:
    """A prepared file with its request, as batches weigh it."""

    prepared: Prepared
    json: bytes

    @property
    def name(self) -> bytes:
        return self.prepared.job.name.raw

    @property
    def parts(self) -> int:
        return len(self.prepared.hashes)

    @property
    def size(self) -> int:
        return self.prepared.plan.size


class _Pipeline:
    """One run over one stream of jobs."""

    def __init__(self, means: Means) -> None:
        self._confirmations = Confirmations(means.wire)
        self._means = dataclasses.replace(means, complete=self._confirmations.complete)
        self._memory = Share(means.memory)
        self._outcomes: asyncio.Queue[_Outcome | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(UNDER_WAY)
        self._ready: deque[Job] = deque()
        self._busy: set[Name] = set()
        self._later: dict[Name, deque[Job]] = {}
        self._large: asyncio.Queue[Job] = asyncio.Queue()
        self._groups: asyncio.Queue[tuple[Bounds, list[_Declared]]] = asyncio.Queue(maxsize=1)
        self._stirred = asyncio.Event()
        self._all_taken = False
        self._under_way = 0
        self._sending = 0
        self._done = asyncio.Event()

    async def run(self, jobs: AsyncIterable[Job]) -> None:
        """Ends when every job has its outcome; an error that is no file's own ends all."""
        try:
            async with asyncio.TaskGroup() as group:
                stages = [
                    group.create_task(self._take(jobs)),
                    group.create_task(self._read()),
                    group.create_task(self._declare(group)),
                    group.create_task(self._confirmations.run()),
                    *(group.create_task(self._send_large()) for _ in range(self._means.options.large_files)),
                ]
                await self._done.wait()
                for stage in stages:
                    stage.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            # A run that is cut off leaves files behind that nobody has begun with.
            self._memory.close()
            self._outcomes.put_nowait(None)

    async def outcome(self) -> _Outcome | None:
        """The next outcome, or None at the end. Only now is there room for another job: this bounds all queues."""
        outcome = await self._outcomes.get()
        if outcome is not None:
            self._room.release()
        return outcome

    async def _take(self, jobs: AsyncIterable[Job]) -> None:
        async for job in jobs:
            await self._room.acquire()
            self._under_way += 1
            self._ready.append(job)
            self._stirred.set()
        self._all_taken = True
        self._end_if_done()

    async def _read(self) -> None:
        """Small files into memory, a group at a time; the rest to where it goes."""
        loop = asyncio.get_running_loop()
        while True:
            jobs = await self._next_jobs()
            try:
                limit = await self._means.wire.part_limit()
            except FileError as error:
                self._fail(jobs, error)
                continue
            room = max(GROUP_BYTES, whole_limit(limit))
            held = await self._memory.take(room)
            outcomes, rest = await loop.run_in_executor(self._means.pool, read_group, jobs, limit, room)
            prepared = [outcome for outcome in outcomes if isinstance(outcome, Prepared)]
            self._memory.give(held - sum(item.plan.size for item in prepared))
            self._put_back(rest)
            declared = self._sort(outcomes)
            if declared:
                await self._groups.put((Bounds.of(limit), declared))

    def _sort(self, outcomes: Sequence[Prepared | Large | Failed]) -> list[_Declared]:
        declared = []
        for outcome in outcomes:
            match outcome:
                case Failed():
                    self._finish(outcome)
                case Large():
                    self._large.put_nowait(outcome.job)
                case Prepared():
                    try:
                        request = outcome.request().model_dump_json(exclude_none=True).encode()
                    except FileError as error:
                        self._memory.give(outcome.plan.size)
                        self._finish(Failed(job=outcome.job, error=error))
                    else:
                        declared.append(_Declared(outcome, request))
        return declared

    async def _declare(self, group: asyncio.TaskGroup) -> None:
        while True:
            bounds, declared = await self._groups.get()
            for batch in batches(declared, bounds):
                try:
                    answers = await self._means.wire.batch_initiate([item.json for item in batch])
                except FileError as error:
                    for item in batch:
                        self._memory.give(item.size)
                    self._fail([item.prepared.job for item in batch], error)
                    continue
                self._sending += len(batch)
                for item, answer in zip(batch, answers, strict=True):
                    first = None if isinstance(answer, Problem) else answer
                    group.create_task(self._deliver(item, first))

    async def _deliver(self, item: _Declared, first: Initiated | None) -> None:
        """Without a first answer the file declares itself again: a problem that does not pass is then its own."""
        job = item.prepared.job
        outcome: _Outcome
        try:
            outcome = await Delivery(self._means, item.prepared, first=first).run()
        except FileError as error:
            outcome = Failed(job=job, error=error)
        finally:
            self._memory.give(item.size)
            self._sending -= 1
            self._stirred.set()
        if isinstance(outcome, Failed) and is_stale_rule(outcome.error):
            # Hashed under a rule that is no more: from the start, with the others that need a way of their own.
            self._means.wire.forget_limit()
            self._large.put_nowait(job)
        else:
            self._finish(outcome)

    async def _send_large(self) -> None:
        while True:
            job = await self._large.get()
            outcome: _Outcome
            try:
                outcome = await upload_one(self._means, job)
            except FileError as error:
                outcome = Failed(job=job, error=error)
            self._finish(outcome)

    async def _next_jobs(self) -> list[Job]:
        """What is there now, up to a batch; waits for the first. A name that is under way waits for its end.

        While a batch's worth is being sent, a smaller one would only cost calls: its files would wait behind those.
        """
        jobs: list[Job] = []
        while not jobs:
            while not self._ready or len(self._ready) < MAX_ITEMS <= self._sending:
                self._stirred.clear()
                await self._stirred.wait()
            while self._ready and len(jobs) < MAX_ITEMS:
                job = self._ready.popleft()
                if job.name in self._busy:
                    self._later.setdefault(job.name, deque()).append(job)
                else:
                    self._busy.add(job.name)
                    jobs.append(job)
        return jobs

    def _put_back(self, jobs: Sequence[Job]) -> None:
        for job in reversed(jobs):
            self._busy.discard(job.name)
            self._ready.appendleft(job)

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        for job in jobs:
            self._finish(Failed(job=job, error=error))

    def _finish(self, outcome: _Outcome) -> None:
        name = outcome.job.name
        self._busy.discard(name)
        if waiting := self._later.get(name):
            self._ready.appendleft(waiting.popleft())
            self._stirred.set()
            if not waiting:
                del self._later[name]
        self._outcomes.put_nowait(outcome)
        self._under_way -= 1
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._all_taken and self._under_way == 0:
            self._done.set()
