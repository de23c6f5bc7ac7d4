"""A bucket in memory in which everything that can be left behind is left behind, by killing who was at work."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from putgate_api.housekeeping.janitor import Janitor
from putgate_api.housekeeping.tally import Tally
from putgate_api.uploads.abort import abort
from putgate_api.uploads.bucket import Bucket
from putgate_protocol.messages.abort import AbortRequest
from putgate_protocol.messages.initiate import Upload
from putgate_protocol.settings.api import ApiSettings
from putgate_storage.errors import Transient
from putgate_storage.memory import MemoryStore
from putgate_storage.probe.run import FOLDER
from putgate_storage.store import ObjectHeaders
from putgate_storage.wrap.wrapped import Operation, wrap
from tests.api import keeper_stage
from tests.api.memory_bucket import PREFIX, begin, bucket, caller, finish, put_parts

T = TypeVar("T")

Point = Literal["before", "after"]
DATA = b"a file of more than one part, and a bit"


def content(name: str) -> bytes:
    """Of a file that no other has the bytes of."""
    return DATA + name.encode()


class Killed(BaseException):
    """The process is gone: nothing may catch this and go on."""


@dataclass(slots=True)
class Dying:
    """Dies at the `at`-th call to the store that `fits`: before it is sent, or after the store has done it."""

    at: int
    when: Point
    fits: Callable[[str], bool] = lambda _: True
    calls: int = 0

    async def __call__(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        if self.calls >= self.at:
            raise Killed
        if self.fits(operation.name):
            self.calls += 1
        if self.calls == self.at and self.when == "before":
            raise Killed
        answer = await call()
        if self.calls == self.at:
            raise Killed
        return answer


def settings(**storage: Any) -> ApiSettings:
    made = keeper_stage.settings(**storage)
    return made.model_copy(update={"janitor": made.janitor.model_copy(update={"calls_per_second": 100.0})})


async def round_of(served: Bucket, **storage: Any) -> Tally:
    """One round of a process that knows nothing yet."""
    tally = Tally()
    await Janitor(settings(**storage), lambda: served).round(served, tally)
    return tally


def dying(store: MemoryStore, at: int, when: Point, fits: Callable[[str], bool] = lambda _: True) -> Bucket:
    return bucket(wrap(store, Dying(at, when, fits)))


async def killed(work: Coroutine[Any, Any, object]) -> None:
    try:
        await work
    except Killed:
        return
    raise AssertionError("it was to be killed, and came to its end")


async def opened(served: Bucket, store: MemoryStore, name: str, data: bytes = DATA) -> Upload:
    """An upload begun, or gone on with, with all parts in the store."""
    answer = await begin(served, name, data)
    assert set(await put_parts(store, answer, data)) <= {200}
    return answer


async def leave_everything(store: MemoryStore) -> None:
    """One of each kind, below names that say what they are."""
    served = bucket(store)

    def dies(when: Point, operation: str) -> Bucket:
        return dying(store, 1, when, lambda name: name == operation)

    async def whole(name: str) -> Upload:
        return await opened(served, store, name, content(name))

    await whole("open")
    await killed(begin(dies("before", "create_upload"), "never-opened", content("never-opened")))
    await killed(begin(dies("after", "create_upload"), "unnamed-upload", content("unnamed-upload")))
    await killed(begin(dies("after", "put_small"), "lone-parts", content("lone-parts")))
    await finish(served, await whole("done"))
    await killed(begin(dies("after", "create_upload"), "copying", content("done")))
    await store.put_small(f"{PREFIX}.putgate/v1/sessions/{'0' * 64}/{'0' * 16}-{'0' * 40}.copies", b"{}")
    await killed(finish(dies("after", "complete"), await whole("published")))
    await killed(finish(dies("before", "complete"), await whole("unpublished")))
    given_up = AbortRequest(upload_id=(await whole("aborting")).upload_id)
    await killed(abort(dies("before", "abort"), caller(), given_up))
    await store.create_upload(f"{PREFIX}stray", ObjectHeaders(metadata={"putgate-upload": "0" * 32}))
    await store.put_small(f"{PREFIX}{FOLDER}run/put-1", b"x")
    await store.create_upload(f"{PREFIX}{FOLDER}run/part-1", ObjectHeaders())


@dataclass(frozen=True, slots=True)
class Seen:
    """What is in the store: files, sessions with their states, Putgate's other objects but the index (part hashes by
    the name that their session is for), open uploads by key.
    """

    files: frozenset[str]
    sessions: frozenset[tuple[str, str]]
    others: frozenset[str]
    uploads: tuple[str, ...]


async def seen(store: MemoryStore) -> Seen:
    keys = [key for key in store.objects if "/.putgate/v1/index/" not in key]
    files = [key for key in keys if "/.putgate/" not in key]
    records = {key: json.loads(store.objects[key].body) for key in keys if key.endswith(".json")}
    names = {
        f"{key.removesuffix('.json')}.{kind}": f"{each['key']}.{kind}"
        for key, each in records.items()
        for kind in ("parts", "copies")
    }
    others = set(keys) - set(files) - records.keys()
    return Seen(
        files=frozenset(key.removeprefix(PREFIX) for key in files),
        sessions=frozenset((each["key"].removeprefix(PREFIX), each["state"]) for each in records.values()),
        others=frozenset(names.get(key, key).removeprefix(PREFIX) for key in others),
        uploads=tuple(sorted(found.upload.key.removeprefix(PREFIX) for found in await store.list_uploads(""))),
    )


class Before:
    """Something else happens just before the first call that fits."""

    def __init__(self, fits: Callable[[str], bool], work: Callable[[], Awaitable[object]]) -> None:
        self._fits = fits
        self._work = work
        self.ran = False

    async def __call__(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        if not self.ran and self._fits(operation.name):
            self.ran = True
            await self._work()
        return await call()


class Failing:
    """Every so-many-th call of a name fails, so many times."""

    def __init__(self, name: str, times: int, every: int = 1) -> None:
        self._name = name
        self._times = times
        self._every = every
        self._calls = 0

    async def __call__(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        if operation.name == self._name:
            self._calls += 1
        if operation.name == self._name and self._times > 0 and self._calls % self._every == 0:
            self._times -= 1
            raise Transient("the store is silent", code="Silent")
        return await call()
