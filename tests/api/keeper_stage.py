"""A keeper on a stage: a store in memory, probes that see what a test says, and a clock that jumps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from putgate_api.prepare.keeper import Keeper
from putgate_api.prepare.status import Status
from putgate_api.prepare.steps import Means, Prepared, probed_with
from putgate_api.prepare.trouble import Unfit
from putgate_api.records.keys import RecordKeys
from putgate_api.records.probe import read_probe
from putgate_protocol.report import ReportedCondition
from putgate_protocol.settings.api import ApiSettings
from putgate_storage.errors import Permanent, StoreError
from putgate_storage.memory import MemoryStore
from putgate_storage.probe.report import ProbeReport, Verdict
from putgate_storage.store import CredentialMark, Store
from tests.operator.virtual_time import now as loop_time
from tests.operator.virtual_time import run

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = RecordKeys("files/")
HOUR = 3600.0


def clock() -> datetime:
    return BEGIN + timedelta(seconds=loop_time())


def settings(**storage: Any) -> ApiSettings:
    in_cluster = storage.pop("in_cluster", True)
    return ApiSettings.model_validate(
        {
            "storage": {
                "s3": {"bucket": "bucket", "endpoint": "http://store.invalid"},
                "prefix": "files/",
                "claimant": {"namespace_uid": "ns", "namespace": "apps", "name": "media"},
                **storage,
            },
            "upload_keys": {"file": Path("/unused")},
            "identity": {"uploadbucket_uid": "uid", "settings_hash": "0123456789"} if in_cluster else None,
        }
    )


def seen(**verdicts: Verdict) -> ProbeReport:
    """A report of now in which the named rows did not pass."""
    report = ProbeReport.assumed_strict(clock())
    rows = tuple(replace(row, verdict=verdicts.get(row.check.value, "passed")) for row in report.rows)
    return replace(report, rows=rows)


class Keyed(MemoryStore):
    """A store whose credentials a test replaces; `accepts`: which ones."""

    def __init__(self, *, exists: bool = True, identity: str = "first") -> None:
        super().__init__(clock=clock, exists=exists)
        self.identity = identity
        self.accepts: str | None = None

    async def credential_mark(self) -> CredentialMark:
        return CredentialMark(identity=self.identity, value=f"value of {self.identity}")

    async def bucket_exists(self) -> bool:
        if self.accepts not in (None, self.identity):
            raise Permanent("HeadBucket", code="InvalidAccessKeyId")
        return await super().bucket_exists()


def plain() -> MemoryStore:
    """A store without credentials, which nobody looks at each second of a day."""
    return MemoryStore(clock=clock)


Answer = Callable[[], ProbeReport] | StoreError | Unfit


@dataclass(slots=True, kw_only=True)
class Stage:
    """A keeper, its store, and what happened when. `answers`: what the probes see, in turn; then all is well."""

    store: MemoryStore
    answers: list[Answer] = field(default_factory=list)
    settings: ApiSettings = field(default_factory=settings)
    status: Status = field(default_factory=Status)
    probes: list[float] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)
    openings: list[StoreError] = field(default_factory=list)
    served: list[tuple[float, Prepared]] = field(default_factory=list)
    withdrawn: list[float] = field(default_factory=list)
    chance: float = 0.0

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Store]:
        self.opened.append(loop_time())
        if self.openings:
            raise self.openings.pop(0)
        yield self.store

    async def _probe(self, _: Store) -> ProbeReport:
        self.probes.append(loop_time())
        answer = self.answers.pop(0) if self.answers else seen
        if isinstance(answer, Exception):
            raise answer
        return answer()

    def means(self) -> Means:
        return Means(settings=self.settings, probe=self._probe, random_hex=lambda size: "ab" * size, program="1.0")

    def keeper(self) -> Keeper:
        return Keeper(
            means=self.means(),
            opened=self._opened,
            serve=lambda _, prepared: self.served.append((loop_time(), prepared)),
            status=self.status,
            withdraw=lambda: self.withdrawn.append(loop_time()),
            chance=lambda: self.chance,
        )

    def condition(self, kind: str) -> ReportedCondition:
        (found,) = [each for each in self.status.conditions if each.type == kind]
        return found

    @property
    def closed(self) -> str | None:
        return self.served[-1][1].closed

    async def recorded(self) -> ProbeReport | None:
        return await read_probe(self.store, KEYS, await probed_with(self.store, self.means()))


def play(stage: Stage, scenes: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the keeper beside `scenes`."""

    async def both() -> None:
        keeper = asyncio.create_task(stage.keeper().run())
        await scenes()
        assert not keeper.done(), keeper
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)

    run(both())


def rest(seconds: float) -> Coroutine[Any, Any, None]:
    """Until this time, and a moment."""
    return asyncio.sleep(seconds - loop_time() + 0.01)
