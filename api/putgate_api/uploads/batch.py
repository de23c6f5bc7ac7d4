"""Batch: many initiates and completes in one call. A bad item spoils only itself.

The files are looked at together, by one listing where their keys lie close, instead of one HEAD each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from putgate_api.auth.caller import Caller
from putgate_api.uploads.bucket import MAX_SIGNED_PARTS, Bucket
from putgate_api.uploads.complete import complete
from putgate_api.uploads.declared import Declared, declare
from putgate_api.uploads.initiate import Looked, decide
from putgate_api.uploads.look import look_many
from putgate_protocol.messages.base import MAX_PARTS_LISTED, Message
from putgate_protocol.messages.complete import CompleteRequest
from putgate_protocol.messages.initiate import InitiateRequest
from putgate_protocol.problems import Problem, problem

_CLOSER = 1
"""From this many failed attempts on, a file is looked at by HEAD: its listing was wrong, or is out of date."""

Outcome = Message | Problem | BaseException
"""An item's answer or problem; another exception is the store's or ours, and is answered like any call's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """One item as far as it could be read."""

    at: int
    declared: Declared | None = None
    complete: CompleteRequest | None = None
    failed: Problem | None = None


async def batch(bucket: Bucket, caller: Caller, items: Sequence[dict[str, Any]]) -> list[Outcome]:
    """An outcome per item, in order. Raises `request_invalid` where the batch as a whole is too large."""
    _check_hashes(items)
    read = _without_repeats([_read(bucket, caller, at, item) for at, item in enumerate(items)])
    heads = await look_many(
        bucket.store, [item.declared.key for item in read if item.declared and item.declared.recheck < _CLOSER]
    )
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
        return await decide(bucket, item.declared, Looked(head=head), page=page)

    # The store's own limit bounds how many of its calls are under way.
    return list(await asyncio.gather(*map(answer, read), return_exceptions=True))


def _page(bucket: Bucket, items: Sequence[_Item], spare: int) -> int:
    """How many signed parts each multipart item gets, so that all items together stay within the limit."""
    large = sum(1 for item in items if item.declared and item.declared.plan.size > bucket.put_max_size)
    return 1 + max(0, spare) // large if large else MAX_SIGNED_PARTS


def _check_hashes(items: Sequence[dict[str, Any]]) -> None:
    named = 0
    for item in items:
        initiate = item.get("initiate")
        parts = initiate.get("parts") if isinstance(initiate, dict) else None
        named += len(parts) if isinstance(parts, list) else 0
    if named > MAX_PARTS_LISTED:
        raise problem("request_invalid", f"a batch names {named} part hashes; {MAX_PARTS_LISTED} are the most")


def _read(bucket: Bucket, caller: Caller, at: int, item: dict[str, Any]) -> _Item:
    try:
        match item:
            case {"initiate": dict() as body}:
                return _Item(at=at, declared=declare(bucket, caller, InitiateRequest.model_validate(body)))
            case {"complete": dict() as body}:
                return _Item(at=at, complete=CompleteRequest.model_validate(body))
            case _:
                return _Item(at=at, failed=problem("request_invalid", "an item has one member, initiate or complete"))
    except ValidationError as error:
        return _Item(at=at, failed=invalid_request(error))
    except Problem as error:
        return _Item(at=at, failed=error)


def _without_repeats(items: Sequence[_Item]) -> list[_Item]:
    seen: set[str] = set()
    kept: list[_Item] = []
    for item in items:
        if item.declared is not None and item.declared.key in seen:
            conflict = problem("name_conflict", f"{item.declared.name} stands twice in this batch; send it again")
            item = _Item(at=item.at, failed=conflict)
        elif item.declared is not None:
            seen.add(item.declared.key)
        kept.append(item)
    return kept


def invalid_request(error: ValidationError) -> Problem:
    """What pydantic says of a request, as a problem that names each place (never the value)."""
    found = error.errors(include_url=False, include_input=False, include_context=False)[:5]
    places = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in found)
    return problem("json_invalid" if found[0]["type"] == "json_invalid" else "request_invalid", places)
