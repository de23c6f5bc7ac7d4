"""Uploads that go on while something else happens: from several workers at once, files of one part and of several."""

from __future__ import annotations

import asyncio
import threading
from itertools import count
from typing import Self

from putgate import Client
from tests.servers.kube.waiting import until

MIB = 1024 * 1024
WORKERS = ((9 * MIB, 1.0), (1000, 0.1), (9 * MIB, 1.0))
"""Each worker's files in bytes, of two parts, one and two; and its pause between two, in seconds. None would only take
the cores and the disk from what is tested."""

WITHIN = 180.0


class Uploading:
    """`with Uploading(url, token) as uploads:` No upload may fail: the first that does ends all, and is raised by
    `more` and at the end.
    """

    def __init__(self, url: str, token: str, *, folder: str = "uploader/") -> None:
        self._url, self._token, self._folder = url, token, folder
        self._done = [0] * len(WORKERS)
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="uploading")
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()
        if kind is None:
            self._check()

    def more(self, times: int) -> None:
        """Wait until each worker has begun and finished `times` further uploads."""
        before = list(self._done)

        def enough() -> bool:
            self._check()
            # One may have been under way.
            return all(now > begun + times for now, begun in zip(self._done, before, strict=True))

        until(f"{times} more uploads of each worker", enough, within=WITHIN)

    def _check(self) -> None:
        if self._failed is not None:
            raise RuntimeError(f"an upload has failed after {self._done}") from self._failed

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._all())
        except BaseException as error:  # noqa: BLE001  # raised again where the test can see it
            self._failed = error

    async def _all(self) -> None:
        async with Client(self._url, token=self._token) as client, asyncio.TaskGroup() as group:
            for worker, (size, pause) in enumerate(WORKERS):
                group.create_task(self._work(worker, size, pause, client))

    async def _work(self, worker: int, size: int, pause: float, client: Client) -> None:
        for number in count():
            # Content of its own, or nothing would be sent.
            await client.upload(f"{worker} {number}\n".encode().ljust(size, b"."), f"{self._folder}{worker}/{number}")
            self._done[worker] += 1
            try:
                async with asyncio.timeout(pause):
                    await self._ended.wait()
                    return
            except TimeoutError:
                continue
