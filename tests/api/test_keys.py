"""Signing keys: fetched once for many, rarely for what nobody publishes, and kept while the API server is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from putgate_api.auth.api_server import ApiServer, Published, Unavailable, read_keys
from putgate_api.auth.keys import ASK_AGAIN, REFRESH, RETRY, Keys
from putgate_protocol.problems import Problem
from tests.api.cluster import ISSUER, Cluster, cluster_at, ec_key, rsa_key
from tests.servers.certificates import Authority


@dataclass
class Publisher:
    """Counts fetches; `failure` is raised instead of an answer, `gate` holds answers back."""

    kids: list[str] = field(default_factory=lambda: ["a"])
    issuer: str = ISSUER
    failure: Unavailable | None = None
    gate: asyncio.Event | None = None
    fetches: int = 0

    async def __call__(self) -> Published:
        self.fetches += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        key = read_keys({"keys": [ec_key("any").as_dict(private=False)]}).popitem()[1]
        return Published(issuer=self.issuer, keys=dict.fromkeys(self.kids, key))


class VirtualTime:
    """A clock that only sleepers move: `pass_by` wakes them in order."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self._sleepers.append((self.now + seconds, event))
        await event.wait()

    async def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        await settled()
        while self._sleepers and min(self._sleepers, key=lambda one: one[0])[0] <= end:
            first = min(self._sleepers, key=lambda one: one[0])
            self._sleepers.remove(first)
            self.now = first[0]
            first[1].set()
            await settled()
        self.now = end


async def settled() -> None:
    """Everything that can run has run."""
    for _ in range(20):
        await asyncio.sleep(0)


def unreachable() -> Unavailable:
    return Unavailable("JWKSUnreachable", "away")


def kept(publisher: Publisher, time: VirtualTime) -> Keys:
    return Keys(publisher, clock=time.clock, sleep=time.sleep)


async def outcome(keys: Keys, kid: str) -> str:
    try:
        published = await keys.asked(ISSUER, kid)
    except Problem as problem:
        return problem.code
    return "known" if kid in published.keys else "absent"


async def code_of(call: Awaitable[object]) -> tuple[str, float | None]:
    with pytest.raises(Problem) as caught:
        await call
    return caught.value.code, caught.value.retry_after


async def test_a_new_key_is_fetched_when_the_first_token_names_it() -> None:
    publisher, time = Publisher(), VirtualTime()
    keys = kept(publisher, time)
    assert set((await keys.asked(ISSUER, "a")).keys) == {"a"}
    publisher.kids = ["a", "b"]
    await time.pass_by(ASK_AGAIN)
    assert set((await keys.asked(ISSUER, "b")).keys) == {"a", "b"}
    assert publisher.fetches == 2
    await asyncio.gather(*(keys.asked(ISSUER, kid) for kid in "abab"))
    assert publisher.fetches == 2


async def test_made_up_key_ids_cost_one_fetch_per_while() -> None:
    publisher, time = Publisher(), VirtualTime()
    keys = kept(publisher, time)
    for second in range(100):
        for attempt in range(5):
            assert await outcome(keys, f"x{second}-{attempt}") in {"absent", "not_ready"}
        assert await outcome(keys, "a") == "known"
        await time.pass_by(1)
    assert publisher.fetches == 10


async def test_a_key_that_was_looked_for_in_vain_is_refused_at_once_and_looked_for_again_later() -> None:
    """A token may come before its key is published everywhere."""
    publisher, time = Publisher(), VirtualTime()
    keys = kept(publisher, time)
    for _ in range(5):
        assert await outcome(keys, "early") == "absent"
    assert publisher.fetches == 1
    publisher.kids.append("early")
    await time.pass_by(ASK_AGAIN)
    assert await outcome(keys, "early") == "known"
    assert publisher.fetches == 2
    # What was missing at one fetch is not held against it after the next.
    publisher.kids.remove("early")
    await time.pass_by(ASK_AGAIN)
    assert await outcome(keys, "other") == "absent"
    assert await outcome(keys, "early") == "not_ready"


async def test_many_calls_wait_for_one_fetch_and_one_that_leaves_does_not_end_it() -> None:
    publisher, time = Publisher(gate=asyncio.Event()), VirtualTime()
    keys = kept(publisher, time)
    first, *others = [asyncio.create_task(keys.asked(ISSUER, "a")) for _ in range(20)]
    await settled()
    first.cancel()
    await settled()
    assert publisher.gate is not None
    publisher.gate.set()
    assert all("a" in one.keys for one in await asyncio.gather(*others))
    assert publisher.fetches == 1


async def test_without_keys_nobody_can_tell_and_the_api_server_is_not_flooded() -> None:
    publisher, time = Publisher(failure=unreachable()), VirtualTime()
    keys = kept(publisher, time)
    for _ in range(50):
        code, retry_after = await code_of(keys.asked(ISSUER, "a"))
        assert code == "not_ready"
        assert retry_after is not None
        assert 1 <= retry_after <= RETRY
    assert publisher.fetches == 1
    assert keys.failure is not None
    publisher.failure = None
    await time.pass_by(RETRY)
    assert "a" in (await keys.asked(ISSUER, "a")).keys
    assert keys.failure is None


async def test_known_keys_hold_while_the_api_server_is_away() -> None:
    publisher, time = Publisher(), VirtualTime()
    learnt: list[float] = []
    keys = Keys(publisher, learnt=lambda: learnt.append(time.clock()), clock=time.clock, sleep=time.sleep)
    keeping = asyncio.create_task(keys.keep())
    await settled()
    publisher.failure = unreachable()
    await time.pass_by(5 * REFRESH)
    assert len(learnt) == 1
    assert publisher.fetches > 3
    assert "a" in (await keys.asked(ISSUER, "a")).keys
    assert (await code_of(keys.asked(ISSUER, "b")))[0] == "not_ready"
    await stopped(keeping)


async def test_an_answer_that_nobody_foresaw_ends_nothing() -> None:
    class Absurd(Publisher):
        async def __call__(self) -> Published:
            await super().__call__()
            raise RecursionError("too deep")

    publisher, time = Absurd(), VirtualTime()
    keys = kept(publisher, time)
    keeping = asyncio.create_task(keys.keep())
    await time.pass_by(60)
    assert publisher.fetches > 3
    assert not keeping.done()
    assert "RecursionError" in str(keys.failure)
    await stopped(keeping)


async def test_a_key_that_is_withdrawn_is_refused_after_the_next_refresh() -> None:
    publisher, time = Publisher(kids=["a", "b"]), VirtualTime()
    keys = kept(publisher, time)
    keeping = asyncio.create_task(keys.keep())
    await settled()
    publisher.kids = ["b"]
    await time.pass_by(REFRESH)
    assert "a" not in (await keys.asked(ISSUER, "b")).keys
    assert publisher.fetches == 2
    await stopped(keeping)


async def test_another_issuer_is_noticed_like_another_key() -> None:
    publisher, time = Publisher(), VirtualTime()
    keys = kept(publisher, time)
    await keys.asked(ISSUER, "a")
    publisher.issuer = "https://new.test.invalid"
    await time.pass_by(ASK_AGAIN)
    assert (await keys.asked("https://new.test.invalid", "a")).issuer == "https://new.test.invalid"


async def test_ending_ends_a_fetch_under_way() -> None:
    publisher, time = Publisher(gate=asyncio.Event()), VirtualTime()
    keys = kept(publisher, time)
    keeping = asyncio.create_task(keys.keep())
    waiting = asyncio.create_task(keys.asked(ISSUER, "a"))
    await settled()
    await stopped(keeping)
    assert (await code_of(waiting))[0] == "not_ready"


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)


# --- the fetch itself, over HTTPS ---


def server_of(cluster: Cluster, **changes: Path) -> ApiServer:
    own = cluster.folder / "own"
    files = {"token_file": own / "token", "ca_file": own / "ca.crt"}
    return ApiServer(url=cluster.url, **{**files, **changes})


async def unavailable(server: ApiServer) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        await server.published()
    return caught.value


async def test_issuer_and_keys_come_from_the_api_server_alone(tmp_path: Path) -> None:
    with cluster_at(tmp_path) as cluster:
        cluster.published.append(ec_key("second").as_dict(private=False))
        published = await server_of(cluster).published()
        assert published.issuer == ISSUER
        assert sorted(key.algorithm for key in published.keys.values()) == ["ES256", "RS256"]
        assert cluster.asked == ["/.well-known/openid-configuration", "/openid/v1/jwks"]


async def test_its_own_token_and_ca_are_read_again_each_time(tmp_path: Path) -> None:
    with cluster_at(tmp_path) as cluster:
        server = server_of(cluster)
        other = Authority("other")
        cluster.own({"token": b"old", "ca.crt": cluster.authority.pem})
        assert "HTTP 401" in str(await unavailable(server))
        cluster.own({"token": b"the-api-pods-own-token\n", "ca.crt": other.pem})
        assert "its certificate is not one of" in str(await unavailable(server))
        cluster.own({"token": b"the-api-pods-own-token\n", "ca.crt": other.pem + cluster.authority.pem})
        assert (await server.published()).issuer == ISSUER


@pytest.mark.parametrize(
    ("refuse", "reason", "says"),
    [
        (403, "JWKSForbidden", "system:service-account-issuer-discovery"),
        (500, "JWKSUnreachable", "HTTP 500"),
        (302, "JWKSUnreachable", "HTTP 302"),
    ],
)
async def test_refusals_say_what_to_do(tmp_path: Path, refuse: int, reason: str, says: str) -> None:
    with cluster_at(tmp_path) as cluster:
        cluster.refuse = refuse
        error = await unavailable(server_of(cluster))
        assert error.reason == reason
        assert says in str(error)
        assert "own-token" not in str(error)


async def test_what_cannot_be_reached_or_read_is_named(tmp_path: Path) -> None:
    with cluster_at(tmp_path) as cluster:
        absent = tmp_path / "absent"
        for changes in ({"token_file": absent}, {"ca_file": absent}):
            assert str(absent) in str(await unavailable(server_of(cluster, **changes)))
        empty = tmp_path / "empty"
        empty.touch()
        assert "holds no token" in str(await unavailable(server_of(cluster, token_file=empty)))
        assert str(empty) in str(await unavailable(server_of(cluster, ca_file=empty)))
    assert "cannot be reached" in str(await unavailable(server_of(cluster)))


def test_only_keys_that_tokens_are_signed_with_are_taken() -> None:
    good = rsa_key("good").as_dict(private=False)
    weak = RSA_1024
    private = rsa_key("private").as_dict(private=True)
    document = {
        "keys": [
            good,
            weak,
            private,
            {**good, "kid": "enc", "use": "enc"},
            {**good, "kid": "hmac", "alg": "HS256"},
            {"kty": "oct", "k": "c2VjcmV0", "kid": "oct", "alg": "HS256"},
            {**good, "kid": 7},
            {**good, "kid": "broken", "n": "!"},
            "nonsense",
        ]
    }
    keys = read_keys(document)
    assert set(keys) == {good["kid"], private["kid"]}
    assert not any(key.key.is_private for key in keys.values())
    assert read_keys({"keys": "none"}) == {}


RSA_1024 = {
    "kty": "RSA",
    "kid": "weak",
    "e": "AQAB",
    "n": "3" + "v" * 170 + "w",
}
