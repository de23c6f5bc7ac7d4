"""One file's way from its hashes to the store: declare it, send what is missing, have it published.

Whatever gets lost on the way (an answer, an upload, a race for the name) ends in declaring it again: the API knows
what is stored. Each kind of failure is bounded, and one that trying again cannot cure is raised at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal, NoReturn

from putgate.errors import SourceChanged, StoreRefused, Unreachable
from putgate.retry import lost, persist
from putgate.upload.completing import Complete, complete_copies, pause
from putgate.upload.job import Job, Uploaded
from putgate.upload.means import Means
from putgate.upload.one_part import UploadVanished
from putgate.upload.parts import Parts
from putgate.upload.prepare import Prepared, give_up, hash_large, read_whole, remember, whole_limit
from putgate.upload.signatures import Signatures
from putgate.wire import Initiated, is_stale_rule
from putgate_protocol.messages.base import File
from putgate_protocol.messages.complete import CompleteAnswer, Copying
from putgate_protocol.messages.initiate import Exists, Upload
from putgate_protocol.problems import Problem

RESTARTS = 8
"""How often one file is declared again after its upload vanished or its PUT was refused."""

_GONE = frozenset({"upload_gone", "upload_expired"})


class DeclareAgain(Exception):
    """What was begun is of no use any more; initiating again heals it."""


async def upload_one(means: Means, job: Job) -> Uploaded:
    """Upload one file. Raises `Problem`, `ClientError`, `OSError`."""
    try:
        return await _upload(means, job)
    except Problem as error:
        if not is_stale_rule(error):
            raise
    means.wire.forget_limit()
    return await _upload(means, job)


async def _upload(means: Means, job: Job) -> Uploaded:
    limit = await means.wire.part_limit()
    loop = asyncio.get_running_loop()
    most = whole_limit(limit)
    held = await means.memory.take(most)
    try:
        prepared = await loop.run_in_executor(means.pool, read_whole, job, limit, most)
        if isinstance(prepared, Prepared):
            means.memory.give(held - prepared.plan.size)
            held = prepared.plan.size
            return await Delivery(means, prepared).run()
    finally:
        means.memory.give(held)
    return await upload_large(means, job)


async def upload_large(means: Means, job: Job) -> Uploaded:
    """Upload a file that is not held in memory."""
    limit = await means.wire.part_limit()
    reading = await asyncio.get_running_loop().run_in_executor(means.pool, job.source.open)
    with contextlib.closing(reading):
        prepared = await hash_large(means, job, reading, limit)
        uploaded = await Delivery(means, prepared, streamed=True).run()
        await means.progress.forget(job.name)
        return uploaded


class Delivery:
    """One prepared file under way. `first`: the answer to an initiate that was sent with others in a batch.
    `streamed`: its bytes are read again as they are sent, so the source may change before they are.
    """

    def __init__(
        self, means: Means, prepared: Prepared, *, first: Initiated | None = None, streamed: bool = False
    ) -> None:
        self._means = means
        self._prepared = prepared
        self._name = prepared.job.name
        self._answer = first
        self._signatures = Signatures()
        if isinstance(first, Upload):
            self._signatures.add(first.parts)
        self._streamed = streamed
        self._upload_id: str | None = None
        self._recheck = 0
        self._restarts = 0
        self._sent = 0

    async def run(self) -> Uploaded:
        try:
            return await persist(self._once, self._means.options.give_up_after, _again)
        except DeclareAgain as error:
            raise StoreRefused(str(error), status=404) from None
        except (SourceChanged, OSError) as error:
            await self._abandon(error)
            raise
        except StoreRefused as error:
            if error.status == 400 and self._streamed:
                # Perhaps the remembered hashes are not of these bytes: the next try computes them anew.
                await self._abandon(error)
                await self._means.progress.forget(self._name)
            raise

    async def _once(self) -> Uploaded:
        answer = self._answer or await self._declare()
        self._answer = None
        if isinstance(answer, Copying):
            answer = await self._copied(answer)
            if isinstance(answer, Copying):
                self._declare_again(f"{self._name}: copying it inside the store was begun again")
        match answer:
            case Exists():
                return self._uploaded("exists", answer.file)
            case Upload(commit="put"):
                return await self._commit_by_put(answer)
            case Upload():
                return await self._commit_by_complete(answer)

    async def _copied(self, copying: Copying) -> Initiated:
        """Let the server copy what it can inside the store. What it cannot is in the answer to another initiate."""
        await self._note(copying.upload_id)
        await pause(copying)
        try:
            done = await self._completed(self._means.wire.complete, copying.upload_id)
        except Problem as error:
            if error.code == "parts_missing":
                return await self._declare()
            if error.code in _GONE:
                self._declare_again(str(error))
            raise
        return Exists(file=done.file or self._file())

    async def _completed(self, complete: Complete, upload_id: str) -> CompleteAnswer:
        return await complete_copies(complete, upload_id, self._prepared.plan.count)

    async def _declare(self) -> Initiated:
        answer = await self._means.wire.initiate(self._prepared.request(self._recheck))
        if isinstance(answer, Upload):
            self._signatures = Signatures()
            self._signatures.add(answer.parts)
        return answer

    async def _commit_by_put(self, upload: Upload) -> Uploaded:
        """One PUT that is itself the commit. Anything but a 2xx says nothing certain, so it is declared again."""
        part = self._prepared.plan.part(1)
        async with self._means.slots:
            # Only now: waiting for a slot may have taken longer than the signature lives.
            signed = self._signatures.live(1)
            if signed is None:
                self._declare_again(f"{self._name}: its signed PUT expired before it was sent")
            await self._check()
            self._recheck += 1
            answer = await self._means.sender.put(signed, self._prepared.reading, part, self._on_bytes)
        if not answer.ok:
            what = f"{self._name}: the store answered {answer}"
            if answer.passes:
                raise Unreachable(what, retry_after=answer.retry_after)
            self._declare_again(what, answer.status)
        self._sent += part.length
        limit = await self._means.wire.part_limit()
        if not self._prepared.job.confirm and self._prepared.plan.size < limit.instant_min_size:
            return self._uploaded("put", None)
        return await self._confirm(upload.upload_id)

    async def _confirm(self, upload_id: str) -> Uploaded:
        """Have the API look at what the PUT committed, and register it for instant upload."""
        try:
            done = await self._completed(self._means.complete, upload_id)
        except (Problem, Unreachable) as error:
            if not self._prepared.job.confirm:
                # The PUT was the commit; registering it only helps later uploads.
                return self._uploaded("put", None)
            if isinstance(error, Problem) and error.code in _GONE:
                self._declare_again(str(error))
            raise
        return self._uploaded("put", done.file)

    async def _commit_by_complete(self, upload: Upload) -> Uploaded:
        parts = Parts(self._means, self._prepared, upload, self._signatures)
        await self._note(upload.upload_id)
        try:
            file = await self._send_and_complete(parts)
        except UploadVanished as error:
            self._declare_again(str(error))
        except Problem as error:
            if error.code in _GONE:
                self._declare_again(str(error))
            raise
        finally:
            self._sent += parts.sent_bytes
            self._upload_id = parts.upload_id
        return self._uploaded("complete", file)

    async def _send_and_complete(self, parts: Parts) -> File | None:
        missing = parts.missing()
        while True:
            await parts.send(missing)
            await self._check()
            complete = self._means.wire.complete if self._streamed else self._means.complete
            try:
                return (await self._completed(complete, parts.upload_id)).file
            except Problem as error:
                if error.code != "parts_missing" or not error.parts:
                    raise
                self._count_restart(str(error))
                missing = [number for number in error.parts if 1 <= number <= self._prepared.plan.count]

    async def _note(self, upload_id: str) -> None:
        self._upload_id = upload_id
        if self._streamed:
            await remember(self._means, self._prepared, upload_id)

    async def _check(self) -> None:
        if self._streamed:
            await asyncio.get_running_loop().run_in_executor(self._means.pool, self._prepared.reading.check)

    async def _abandon(self, error: Exception) -> None:
        """The source is gone or other: what was sent of it is of no use to anybody."""
        if self._upload_id is not None:
            await give_up(self._means, self._upload_id)
        if self._streamed and isinstance(error, SourceChanged):
            await self._means.progress.forget(self._name)

    def _count_restart(self, why: str, status: int = 404) -> None:
        self._restarts += 1
        if self._restarts > RESTARTS:
            raise StoreRefused(why, status=status)

    def _declare_again(self, why: str, status: int = 404) -> NoReturn:
        self._count_restart(why, status)
        raise DeclareAgain(why)

    def _on_bytes(self, count: int) -> None:
        self._means.on_bytes(self._name, count)

    def _uploaded(self, how: Literal["exists", "put", "complete"], file: File | None) -> Uploaded:
        return Uploaded(
            job=self._prepared.job,
            file=file or self._file(),
            how=how,
            sent_bytes=self._sent,
            change_key=self._prepared.reading.change_key,
        )

    def _file(self) -> File:
        """What is known of the file where the API did not say."""
        name = self._name.to_wire()
        return File(
            name=name.get("name"),
            name_b64=name.get("name_b64"),
            size=self._prepared.plan.size,
            file_hash=str(self._prepared.file_hash),
        )


def _again(error: Exception) -> float | None:
    return 0.0 if isinstance(error, DeclareAgain) else lost(error)
