"""The canaries: one function per row of the report, each with throw-away keys of its own.

A refusal counts only if nothing was kept either, and every kind of request is also sent correctly, so that a store
which refuses everything passes nothing. Bodies are tiny: a last part may be.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from putgate_storage.errors import Refused
from putgate_storage.probe.bench import (
    Answer,
    Bench,
    accepted,
    failed,
    inconclusive,
    judged,
    passed,
    tampered,
    together,
)
from putgate_storage.store import Condition, FinishedPart, IfAbsent, IfMatch, SignedRequest, StoreUpload

Canary = Callable[[Bench], Awaitable[Answer]]

RACERS = 8
"""How many requests go at once. Sequential ones pass on stores that race."""

PUT_RACES = 2
"""Races between PUTs, side by side."""

ROUNDS = 6
"""Rounds of a race between Completes. One is won by exactly one now and then also on a store that races (about one
in ten on SeaweedFS 4.48); each further round costs every start some tenths of a second."""

_BODY = b"the declared bytes"
_OTHER = b"smuggled other ones"[: len(_BODY)]
_LONGER = len(_BODY) + 1


# --- what holders of a signed part could try ---


async def part_accepted(bench: Bench) -> Answer:
    upload = await bench.open(bench.key("part"))
    status = await bench.send(await bench.part(upload, 1, _BODY), _BODY)
    held = await bench.store.list_parts(upload)
    good = accepted(status) and [part.size for part in held or []] == [len(_BODY)]
    return judged(good=good, seen=f"answered {status}")


async def part_sha256(bench: Bench) -> Answer:
    upload = await bench.open(bench.key("part"))
    return await _part_refused(bench, upload, await bench.part(upload, 1, _BODY), _OTHER)


async def part_length(bench: Bench) -> Answer:
    upload = await bench.open(bench.key("part"))
    request = await bench.part(upload, 1, _BODY, length=_LONGER)
    return await _part_refused(bench, upload, request, _BODY, {"content-length": str(len(_BODY))})


async def part_signature(bench: Bench) -> Answer:
    upload = await bench.open(bench.key("part"))
    return await _part_refused(bench, upload, tampered(await bench.part(upload, 1, _BODY)), _BODY)


async def part_expiry(bench: Bench) -> Answer:
    upload = await bench.open(bench.key("part"))
    return await _part_refused(bench, upload, await bench.expired_part(upload, 1, _BODY), _BODY)


def part_extra(header: str, value: str) -> Canary:
    """A row per unsigned header."""

    async def canary(bench: Bench) -> Answer:
        source = await _source(bench)
        upload = await bench.open(bench.key("part"))
        extra = {header: value.replace(_SOURCE, source)}
        return await _part_refused(bench, upload, await bench.part(upload, 1, _BODY), _BODY, extra)

    return canary


async def _part_refused(
    bench: Bench, upload: StoreUpload, request: SignedRequest, body: bytes, extra: dict[str, str] | None = None
) -> Answer:
    status = await bench.send(request, body, extra)
    held = await bench.store.list_parts(upload)
    seen = _refusal(status, kept=bool(held))
    if accepted(status) or held:
        return failed(seen)
    # Refused for what was wrong with it, and not for everything just then: the right request has to pass.
    right = await bench.send(await bench.part(upload, 1, _BODY), _BODY)
    return passed(seen) if accepted(right) else inconclusive(f"{seen}, and a correct part answered {right}")


# --- what holders of a signed PutObject could try ---


async def put_accepted(bench: Bench) -> Answer:
    key = bench.key("put")
    status = await bench.send(await bench.put(key, _BODY, condition=IfAbsent()), _BODY)
    return judged(good=accepted(status) and await bench.holds(key, _BODY), seen=f"answered {status}")


async def put_sha256(bench: Bench) -> Answer:
    key = bench.key("put")
    return await _put_refused(bench, key, await bench.put(key, _BODY), _OTHER)


async def put_length(bench: Bench) -> Answer:
    key = bench.key("put")
    request = await bench.put(key, _BODY, length=_LONGER)
    return await _put_refused(bench, key, request, _BODY, {"content-length": str(len(_BODY))})


async def put_signature(bench: Bench) -> Answer:
    key = bench.key("put")
    return await _put_refused(bench, key, tampered(await bench.put(key, _BODY)), _BODY)


async def put_expiry(bench: Bench) -> Answer:
    key = bench.key("put")
    return await _put_refused(bench, key, await bench.expired_put(key, _BODY), _BODY)


def put_extra(header: str, value: str) -> Canary:
    async def canary(bench: Bench) -> Answer:
        source = await _source(bench)
        key = bench.key("put")
        extra = {header: value.replace(_SOURCE, source)}
        return await _put_refused(bench, key, await bench.put(key, _BODY), _BODY, extra)

    return canary


async def _put_refused(
    bench: Bench, key: str, request: SignedRequest, body: bytes, extra: dict[str, str] | None = None
) -> Answer:
    status = await bench.send(request, body, extra)
    kept = await bench.store.head(key) is not None
    seen = _refusal(status, kept=kept)
    if accepted(status) or kept:
        return failed(seen)
    right = await bench.send(await bench.put(key, _BODY), _BODY)
    return passed(seen) if accepted(right) else inconclusive(f"{seen}, and a correct PUT answered {right}")


_SOURCE = "{source}"
COPY_SOURCE = ("x-amz-copy-source", _SOURCE)
ACL = ("x-amz-acl", "public-read")
GRANT = ("x-amz-grant-read", 'uri="http://acs.amazonaws.com/groups/global/AllUsers"')
TAGGING = ("x-amz-tagging", "smuggled=1")
META = ("x-amz-meta-smuggled", "1")


async def _source(bench: Bench) -> str:
    """An object that a smuggled copy could take, as a copy source names it."""
    key = bench.key("source")
    await bench.store.put_small(key, _OTHER)
    return bench.copy_source(key)


# --- races ---


async def put_if_absent(bench: Bench) -> Answer:
    return await _put_races(bench, match=False)


async def put_if_match(bench: Bench) -> Answer:
    return await _put_races(bench, match=True)


async def _put_races(bench: Bench, *, match: bool) -> Answer:
    """Several side by side, each on a key of its own: one race may have one winner by luck."""
    answers = await together(*(_put_race(bench, match=match) for _ in range(PUT_RACES)))
    return next((answer for answer in answers if answer.verdict != "passed"), answers[0])


async def _put_race(bench: Bench, *, match: bool) -> Answer:
    key = bench.key("race")
    condition: Condition = IfMatch(etag=await bench.store.put_small(key, _BODY)) if match else IfAbsent()
    bodies = _bodies("put")
    racers = [_put_racer(bench, await bench.put(key, body, condition=condition), body) for body in bodies]
    return await _judge_race(bench, key, bodies, await together(*racers))


async def complete_condition(bench: Bench) -> Answer:
    """Rounds of conditional Completes alone; the first that has not exactly one winner decides."""
    return await _rounds(bench, completes=RACERS)


async def complete_against_put(bench: Bench) -> Answer:
    """The same with PUTs among them."""
    return await _rounds(bench, completes=RACERS // 2)


async def _rounds(bench: Bench, *, completes: int) -> Answer:
    if bench.store.limits.completes_race:
        return failed("not tried: this store is known to let several win")
    answer = inconclusive("no round was run")
    for number in range(ROUNDS):
        answer = await _complete_round(bench, completes, match=number >= ROUNDS // 2)
        if answer.verdict != "passed":
            return answer
    return passed(f"{answer.seen}, in each of {ROUNDS} rounds")


async def _complete_round(bench: Bench, completes: int, *, match: bool) -> Answer:
    key = bench.key("race")
    condition: Condition = IfMatch(etag=await bench.store.put_small(key, _BODY)) if match else IfAbsent()
    bodies = _bodies("complete")
    ready = await together(*(bench.upload(key, body) for body in bodies[:completes]))
    puts = [(await bench.put(key, body, condition=condition), body) for body in bodies[completes:]]
    won = await together(
        *(bench.wins(upload, parts, condition) for upload, parts in ready),
        *(_put_racer(bench, request, body) for request, body in puts),
    )
    return await _judge_race(bench, key, bodies, won)


async def _put_racer(bench: Bench, request: SignedRequest, body: bytes) -> bool:
    return accepted(await bench.send(request, body))


async def _judge_race(bench: Bench, key: str, bodies: Sequence[bytes], won: Sequence[bool]) -> Answer:
    winners = [body for body, each in zip(bodies, won, strict=True) if each]
    if len(winners) != 1:
        return failed(f"{len(winners)} winners of {len(bodies)}")
    if not await bench.holds(key, winners[0]):
        return failed("one winner, whose bytes are not what is stored")
    return passed(f"one winner of {len(bodies)}")


def _bodies(kind: str) -> list[bytes]:
    return [f"{kind} racer {number}".encode() for number in range(RACERS)]


# --- what comes late ---


async def part_after_complete(bench: Bench) -> Answer:
    key = bench.key("late")
    upload, parts = await bench.upload(key, _BODY)
    await bench.store.complete(upload, parts)
    status = await bench.send(await bench.part(upload, 1, _OTHER), _OTHER)
    unchanged = await bench.holds(key, _BODY) and await bench.store.list_parts(upload) is None
    return judged(good=unchanged, seen=f"answered {status}, {_state(unchanged=unchanged)}")


async def part_after_abort(bench: Bench) -> Answer:
    key = bench.key("late")
    upload, _ = await bench.upload(key, _BODY)
    await bench.store.abort(upload)
    status = await bench.send(await bench.part(upload, 1, _OTHER), _OTHER)
    unchanged = await bench.store.head(key) is None and await bench.store.list_parts(upload) is None
    return judged(good=unchanged, seen=f"answered {status}, {_state(unchanged=unchanged)}")


async def complete_after_overwrite(bench: Bench) -> Answer:
    key = bench.key("late")
    upload, parts = await bench.upload(key, _BODY)
    await bench.store.complete(upload, parts)
    await bench.store.put_small(key, _OTHER)
    seen = await _complete_again(bench, upload, parts)
    unchanged = await bench.holds(key, _OTHER)
    return judged(good=unchanged, seen=f"{seen}, {_state(unchanged=unchanged)}")


async def complete_after_delete(bench: Bench) -> Answer:
    key = bench.key("late")
    upload, parts = await bench.upload(key, _BODY)
    await bench.store.complete(upload, parts)
    if not await bench.holds(key, _BODY):
        return inconclusive("a correct complete stored nothing")
    await bench.store.delete(key)
    seen = await _complete_again(bench, upload, parts)
    unchanged = await bench.store.head(key) is None
    return judged(good=unchanged, seen=f"{seen}, {_state(unchanged=unchanged)}")


async def _complete_again(bench: Bench, upload: StoreUpload, parts: Sequence[FinishedPart]) -> str:
    """Any answer is fine, as long as it changes nothing."""
    try:
        answer = await bench.store.complete(upload, parts)
    except Refused as refused:
        return f"refused with {refused.code}"
    return "no such upload" if answer is None else "answered as done"


# --- what the API relies on ---


async def complete_sha256(bench: Bench) -> Answer:
    """Also tells the bench how the other rows must complete."""
    key = bench.key("complete")
    upload, parts = await bench.upload(key, _BODY)
    try:
        await bench.store.complete(upload, parts)
    except Refused as refused:
        bench.part_sha256_in_complete = False
        return failed(f"refused with {refused.code}")
    return judged(good=await bench.holds(key, _BODY), seen="accepted")


async def list_parts_pages(bench: Bench) -> Answer:
    """Five parts of different sizes, sent in no order, listed in pages of two."""
    upload = await bench.open(bench.key("pages"))
    bodies = {number: _BODY[:number] for number in (5, 1, 4, 2, 3)}
    for number, body in bodies.items():
        await bench.send(await bench.part(upload, number, body), body)
    held = await bench.store.list_parts(upload) or []
    good = [(part.number, part.size) for part in held] == [(number, number) for number in range(1, 6)]
    return judged(good=good and all(part.etag for part in held), seen=f"{len(held)} of {len(bodies)} parts listed")


def _refusal(status: int, *, kept: bool) -> str:
    return f"answered {status}, {'kept' if kept else 'nothing kept'}"


def _state(*, unchanged: bool) -> str:
    return "nothing changed" if unchanged else "something changed"
