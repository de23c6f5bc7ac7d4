"""Batch: many initiates and completes in one call. A bad item spoils only itself.

The files are looked at together, by one listing where their keys lie close, instead of one HEAD each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from putgate_api.auth.caller import Caller
from putgate_api.reloading import Unreadable
from putgate_api.uploads.bucket import MAX_SIGNED_PARTS, Bucket
from putgate_api.uploads.complete import complete
from putgate_api.uploads.declared import Declared, declare
from putgate_api.uploads.initiate import decide
from putgate_api.uploads.look import look_many
from putgate_api.uploads.opened import open_upload_id
from putgate_protocol.messages.base import MAX_PARTS_LISTED, Message
from putgate_protocol.messages.complete import CompleteRequest
from putgate_protocol.messages.initiate import InitiateRequest
from putgate_protocol.problems import Problem, problem

_CLOSER = 1
"""From this many failed attempts on, a file is looked at by HEAD: its listing was wrong, or is out of date."""

_AT_ONCE = 24
"""Items of one batch looked at, or at work, at once; half of what the store is asked for at once in all."""

Outcome = Message | Exception
"""An item's answer or problem; another exception is the store's or ours, and is answered like any call's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """One item as far as it could be read. `key`: of the file that it is about."""

    key: str | None = None
    declared: Declared | None = None
    complete: CompleteRequest | None = None
    failed: Problem | None = None


async def batch(bucket: Bucket, caller: Caller, items: Sequence[dict[str, Any]]) -> list[Outcome]:
    """An outcome per item, in order. Raises `request_invalid` where the batch as a whole is too large."""
    _check_hashes(items)
    read = _without_repeats([_read(bucket, caller, item) for item in items])
    looked_at = [item.declared.key for item in read if item.declared and item.declared.recheck < _CLOSER]
    heads = await look_many(bucket.store, looked_at, at_once=_AT_ONCE)
    spare = MAX_SIGNED_PARTS - len(items)
    page = _page(bucket, read, spare)

    async def answer(item: _Item) -> Message:
        if item.failed is not None:
            raise item.failed
        if item.complete is not None:
            return await complete(bucket, caller, item.complete)
        assert item.declared is not None
        key = item.declared.key
        head = heads[key] if key in heads else await bucket.store.head(key)
        return await decide(bucket, item.declared, head, page=page)

    return await _all(answer, read, last=lambda item: _commits_by_put(bucket, item))


async def _all(
    answer: Callable[[_Item], Awaitable[Message]], items: Sequence[_Item], last: Callable[[_Item], bool]
) -> list[Outcome]:
    """Answer all, a few at once, so that one batch leaves room for other callers. Those that `last` names come last:
    their URLs live shortest.
    """
    slots = asyncio.Semaphore(_AT_ONCE)
    outcomes: dict[int, Outcome] = {}

    async def one(at: int) -> None:
        async with slots:
            try:
                outcomes[at] = await answer(items[at])
            except Exception as error:  # noqa: BLE001 - it becomes this item's own answer
                outcomes[at] = error

    for phase in (False, True):
        await asyncio.gather(*(one(at) for at, item in enumerate(items) if last(item) is phase))
    return [outcomes[at] for at in range(len(items))]


def _commits_by_put(bucket: Bucket, item: _Item) -> bool:
    return item.declared is not None and 0 < item.declared.plan.size <= bucket.put_max_size


def _page(bucket: Bucket, items: Sequence[_Item], spare: int) -> int:
    """How many signed parts each multipart item gets, so that all items together stay within the limit."""
    large = sum(1 for item in items if item.declared and not _commits_by_put(bucket, item))
    return 1 + max(0, spare) // large if large else MAX_SIGNED_PARTS


def _check_hashes(items: Sequence[dict[str, Any]]) -> None:
    named = 0
    for item in items:
        initiate = item.get("initiate")
        parts = initiate.get("parts") if isinstance(initiate, dict) else None
        named += len(parts) if isinstance(parts, list) else 0
    if named > MAX_PARTS_LISTED:
        raise problem("request_invalid", f"a batch names {named} part hashes; {MAX_PARTS_LISTED} are the most")


def _read(bucket: Bucket, caller: Caller, item: dict[str, Any]) -> _Item:
    try:
        match item:
            case {"initiate": dict() as body}:
                declared = declare(bucket, caller, InitiateRequest.model_validate(body))
                return _Item(key=declared.key, declared=declared)
            case {"complete": dict() as body}:
                request = CompleteRequest.model_validate(body)
                return _Item(key=open_upload_id(bucket, caller, request.upload_id).key, complete=request)
            case _:
                return _Item(failed=problem("request_invalid", "an item has one member, initiate or complete"))
    except ValidationError as error:
        return _Item(failed=invalid_request(error))
    except Problem as error:
        return _Item(failed=error)
    except Unreadable:
        # One key that is missing is no reason to refuse what was sealed with another.
        return _Item(failed=problem("not_ready", "the server cannot read its keys at present", retry_after=5))


def _without_repeats(items: Sequence[_Item]) -> list[_Item]:
    seen: set[str] = set()
    kept: list[_Item] = []
    for item in items:
        if item.key is None:
            kept.append(item)
        elif item.key in seen:
            conflict = problem("name_conflict", f"{item.key} stands twice in this batch; send it again")
            kept.append(_Item(failed=conflict))
        else:
            seen.add(item.key)
            kept.append(item)
    return kept


def invalid_request(error: ValidationError) -> Problem:
    """What pydantic says of a request, as a problem that names each place (never the value)."""
    found = error.errors(include_url=False, include_input=False, include_context=False)[:5]
    places = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in found)
    return problem("json_invalid" if found[0]["type"] == "json_invalid" else "request_invalid", places)
