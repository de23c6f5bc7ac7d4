"""The canaries: one function per row of the report, each with throw-away keys of its own.

A refusal counts only if nothing was kept either, and every kind of request is also sent correctly, so that a store
which refuses everything passes nothing. Bodies are tiny: a last part may be.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Literal

from putgate_protocol.digests import PartHash
from putgate_storage.errors import ConditionFailed, Refused, Transient
from putgate_storage.probe.bench import (
    Answer,
    Bench,
    accepted,
    failed,
    inconclusive,
    judged,
    md5_hex,
    passed,
    tampered,
    together,
)
from putgate_storage.store import (
    Condition,
    CopiesParts,
    DeletesIfMatch,
    FinishedPart,
    IfAbsent,
    IfMatch,
    SignedRequest,
    StoreUpload,
)

Canary = Callable[[Bench], Awaitable[Answer]]
Ending = Literal["won", "lost", "unclear"]

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


async def part_md5(bench: Bench) -> Answer:
    """The SHA-256 is right, so that only the MD5 can be the reason."""
    upload = await bench.open(bench.key("part"))
    request = await bench.part(upload, 1, _OTHER, md5_of=_BODY)
    return await _part_refused(bench, upload, request, _OTHER, md5_of=_BODY)


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
    return partial(_part_extra, header, value, None)


async def part_copy_source_md5(bench: Bench) -> Answer:
    """What a copy in place of a part meets where the part's MD5 is signed too."""
    return await _part_extra(*COPY_SOURCE, _BODY, bench)


async def _part_extra(header: str, value: str, md5_of: bytes | None, bench: Bench) -> Answer:
    source = await _source(bench)
    upload = await bench.open(bench.key("part"))
    request = await bench.part(upload, 1, _BODY, md5_of=md5_of)
    return await _part_refused(bench, upload, request, _BODY, {header: value.replace(_SOURCE, source)}, md5_of=md5_of)


async def _part_refused(
    bench: Bench,
    upload: StoreUpload,
    request: SignedRequest,
    body: bytes,
    extra: dict[str, str] | None = None,
    *,
    md5_of: bytes | None = None,
) -> Answer:
    status = await bench.send(request, body, extra)
    held = await bench.store.list_parts(upload)
    seen = _refusal(status, kept=bool(held))
    if accepted(status) or held:
        return failed(seen)
    # Refused for what was wrong with it, and not for everything just then: the right request has to pass.
    right = await bench.send(await bench.part(upload, 1, _BODY, md5_of=md5_of), _BODY)
    return passed(seen) if accepted(right) else inconclusive(f"{seen}, and a correct part answered {right}")


# --- what holders of a signed PutObject could try ---


async def put_accepted(bench: Bench) -> Answer:
    key = bench.key("put")
    status = await bench.send(await bench.put(key, _BODY, condition=IfAbsent()), _BODY)
    return judged(good=accepted(status) and await bench.holds(key, _BODY), seen=f"answered {status}")


async def put_sha256(bench: Bench) -> Answer:
    key = bench.key("put")
    return await _put_refused(bench, key, await bench.put(key, _BODY), _OTHER)


async def put_md5(bench: Bench) -> Answer:
    key = bench.key("put")
    return await _put_refused(bench, key, await bench.put(key, _OTHER, md5_of=_BODY), _OTHER, md5_of=_BODY)


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
    bench: Bench,
    key: str,
    request: SignedRequest,
    body: bytes,
    extra: dict[str, str] | None = None,
    *,
    md5_of: bytes | None = None,
) -> Answer:
    status = await bench.send(request, body, extra)
    kept = await bench.store.head(key) is not None
    seen = _refusal(status, kept=kept)
    if accepted(status) or kept:
        return failed(seen)
    right = await bench.send(await bench.put(key, _BODY, md5_of=md5_of), _BODY)
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
    ended = await together(
        *(_complete_racer(bench, upload, parts, condition) for upload, parts in ready),
        *(_put_racer(bench, request, body) for request, body in puts),
    )
    return await _judge_race(bench, key, bodies, ended)


async def _complete_racer(
    bench: Bench, upload: StoreUpload, parts: Sequence[FinishedPart], condition: Condition
) -> Ending:
    return "won" if await bench.wins(upload, parts, condition) else "lost"


async def _put_racer(bench: Bench, request: SignedRequest, body: bytes) -> Ending:
    try:
        return "won" if accepted(await bench.send(request, body)) else "lost"
    except Transient as error:
        # How Ceph 16 answers some who lose at the very same moment.
        if error.code != "500":
            raise
        return "unclear"


async def _judge_race(bench: Bench, key: str, bodies: Sequence[bytes], ended: Sequence[Ending]) -> Answer:
    """What ended unclear did nothing where one other has won and its bytes are what is stored: all had the same
    condition, so that none could win before it, and none after it.
    """
    winners = [body for body, each in zip(bodies, ended, strict=True) if each == "won"]
    if not winners and "unclear" in ended:
        return inconclusive(f"no winner of {len(bodies)}, and some were answered 500")
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
    except Transient as error:
        # Ceph 16's answer to this very call.
        if error.code != "InternalError":
            raise
        return "answered InternalError"
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


async def part_etag_md5(bench: Bench) -> Answer:
    """On which rests every later comparison of what the store holds with what was declared."""
    upload = await bench.open(bench.key("etag"))
    await bench.send(await bench.part(upload, 1, _BODY), _BODY)
    held = await bench.store.list_parts(upload) or []
    return judged(good=[part.etag for part in held] == [md5_hex(_BODY)], seen=f"{len(held)} of 1 parts listed")


async def part_copy_range(bench: Bench) -> Answer:
    """Of a source larger than the smallest part: AWS copies no range of others."""
    before = bench.store.limits.min_part_size
    return await _part_copied(bench, bytes(before) + _BODY + b"\n", (before, before + len(_BODY) - 1))


async def part_copy_whole(bench: Bench) -> Answer:
    return await _part_copied(bench, _BODY, None)


async def _part_copied(bench: Bench, whole: bytes, span: tuple[int, int] | None) -> Answer:
    """Right in what is said of it, and in what can be read after the complete."""
    store = bench.store
    if not isinstance(store, CopiesParts):
        return failed("this driver does not copy parts")
    source, key = bench.key("source"), bench.key("copied")
    etag = await bench.store.put_small(source, whole)
    upload = await bench.open(key)
    copied = await store.copy_part(upload, 1, source, span=span, source_etag=etag)
    held = await bench.store.list_parts(upload) or []
    if [part.size for part in held] != [len(_BODY)]:
        return failed(f"a part of {held[0].size} bytes instead of {len(_BODY)}" if held else "no part is listed")
    if copied.sha256 != PartHash.of(_BODY) and copied.etag != md5_hex(_BODY):
        return failed("neither SHA-256 nor ETag are those of the bytes")
    await bench.store.complete(upload, await bench.finished(upload, _BODY))
    return judged(good=await bench.holds(key, _BODY), seen=f"a part of {len(_BODY)} bytes")


async def delete_if_match(bench: Bench) -> Answer:
    store = bench.store
    if not isinstance(store, DeletesIfMatch):
        return failed("this driver does not delete with a condition")
    key = bench.key("delete")
    etag = await store.put_small(key, _BODY)
    try:
        await store.delete_if_match(key, md5_hex(_OTHER))
    except ConditionFailed:
        kept = await bench.holds(key, _BODY)
    else:
        return failed("deleted all the same" if await bench.store.head(key) is None else "answered as done")
    if not kept:
        return failed("refused, and deleted")
    await store.delete_if_match(key, etag)
    return judged(good=await bench.store.head(key) is None, seen="refused, and done with the right ETag")


def _refusal(status: int, *, kept: bool) -> str:
    return f"answered {status}, {'kept' if kept else 'nothing kept'}"


def _state(*, unchanged: bool) -> str:
    return "nothing changed" if unchanged else "something changed"
