"""Who led when, by the API server's own account, and whether anybody wrote in another's term.

The audit log says when each request arrived and when it was over; nothing here asks the operators what they believe.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from tests.operator.plane.operators import WRITES, Home
from tests.servers.kube.waiting import PAUSE

LEASE_DURATION = 15.0
"""Seconds without a renewal for which others must wait."""

SOON = 20.0
"""Seconds after which another leads, however the leader was lost: the lease's 15, up to 2 until the other has noticed
its last renewal, up to 2 until it looks again, and what the requests take."""

BLOCKED = 70
"""What the watchdog ends a process with that had no time to renew its lease."""

ROUNDS = 4
"""Requests of the other that the takeover waits for, at most; each may take as long as the slowest of a test's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A mutating request of an operator. `began`, `ended`: by the API server's clock."""

    account: str
    what: str
    is_lease: bool
    status: int
    began: datetime
    ended: datetime

    @classmethod
    def parse(cls, event: dict[str, Any]) -> Self:
        target = event["objectRef"]
        steps = (event["verb"], target["resource"], target.get("name", ""), target.get("subresource", ""))
        return cls(
            account=event["user"]["username"].rpartition(":")[2],
            what=" ".join(step for step in steps if step),
            is_lease=target["resource"] == "leases",
            status=event.get("responseStatus", {}).get("code", 0),
            began=datetime.fromisoformat(event["requestReceivedTimestamp"]),
            ended=datetime.fromisoformat(event["stageTimestamp"]),
        )

    @property
    def took_effect(self) -> bool:
        """Or may have: only 4xx says that it has not."""
        return not 400 <= self.status < 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """`acquired`: when the request arrived by which it began; `renewed`: when the last one of its account did."""

    account: str
    acquired: datetime
    renewed: datetime


def requests(home: Home, since: int) -> list[Request]:
    """What operators of this namespace asked to change after a mark, in the order in which it was over."""
    with home.plane.log.path.open("rb") as file:
        file.seek(since)
        events = [json.loads(line) for line in file if line.endswith(b"\n")]
    mine = home.user_of("")
    found = (each for each in events if each["verb"] in WRITES and each["user"]["username"].startswith(mine))
    return sorted(map(Request.parse, found), key=lambda each: each.ended)


def terms(asked: list[Request]) -> list[Term]:
    """One after the other; a restarted process goes on with its account's term, since its predecessor is dead."""
    found: list[Term] = []
    for each in asked:
        if not each.is_lease or each.status >= 300:
            continue
        if found and found[-1].account == each.account:
            found[-1] = Term(account=each.account, acquired=found[-1].acquired, renewed=each.began)
        else:
            found.append(Term(account=each.account, acquired=each.began, renewed=each.began))
    return found


def intrusions(asked: list[Request]) -> list[Request]:
    """Writes that were not wholly within a term of who wrote."""
    found = terms(asked)
    ends = [*(term.acquired for term in found[1:]), datetime.max.replace(tzinfo=UTC)]
    spans = list(zip(found, ends, strict=True))

    def within(each: Request) -> bool:
        return any(
            term.account == each.account and term.acquired < each.began and each.ended < end for term, end in spans
        )

    return [each for each in asked if not each.is_lease and each.took_effect and not within(each)]


@dataclass(slots=True, kw_only=True)
class Loss:
    """A leader is lost now. It keeps the cluster busy while a test waits, and learns by that how slow it is."""

    home: Home
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    slowest: float = 0.0

    @property
    def age(self) -> float:
        """Seconds."""
        return (datetime.now(UTC) - self.at).total_seconds()

    def busy_until(self, what: str, enough: Callable[[], bool]) -> None:
        """Something to do for whoever leads, until it is enough."""
        deadline = time.monotonic() + 120
        while not enough():
            assert time.monotonic() < deadline, f"not within 120 s: {what}"
            began = time.monotonic()
            self.home.kubectl("delete", "service", "media-putgate-api", "--ignore-not-found", "--wait=false")
            self.slowest = max(self.slowest, time.monotonic() - began)
            time.sleep(PAUSE)

    def check(self, asked: list[Request], *, released: bool = False) -> None:
        """The next term began neither too soon nor too late, and nobody wrote in another's."""
        before, after = terms(asked)[:2]
        assert before.account != after.account
        assert intrusions(asked) == []
        assert released or (after.acquired - before.renewed).total_seconds() > LEASE_DURATION
        assert (after.acquired - self.at).total_seconds() < SOON + ROUNDS * self.slowest
