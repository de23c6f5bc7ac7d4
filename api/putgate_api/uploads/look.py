"""What is at a name: one by HEAD, many by LIST. A look is a hint; the precondition of the write decides.

A LIST is believed about a key that it shows, and about one that it does not show only where the listing has
certainly passed its place: stores disagree whether `a.txt` comes before `a/b` (bytes) or after it (folders), so a
place has to be passed in both orders.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from putgate_storage.errors import StoreError
from putgate_storage.store import Head, Store

NAMES_PER_PAGE = 100
"""One page of LIST is spent per so many names, at most; what it did not reach is looked at by HEAD."""


async def look_many(store: Store, keys: Sequence[str], *, at_once: int) -> dict[str, Head | None]:
    """What is at each key. Keys are distinct; one key costs a HEAD, many a LIST and a HEAD per key that exists, of
    which so many are asked for at once.

    A key whose HEAD failed is left out. Raises `StoreError` where the LIST failed.
    """
    absent = await _absent(store, sorted(keys)) if len(keys) > 1 else set()
    unknown = [key for key in keys if key not in absent]
    slots = asyncio.Semaphore(at_once)

    async def look(key: str) -> Head | None:
        async with slots:
            return await store.head(key)

    heads = await asyncio.gather(*(look(key) for key in unknown), return_exceptions=True)
    seen: dict[str, Head | None] = dict.fromkeys(absent)
    for key, head in zip(unknown, heads, strict=True):
        if isinstance(head, BaseException) and not isinstance(head, StoreError):
            raise head
        if not isinstance(head, StoreError):
            seen[key] = head
    return seen


async def _absent(store: Store, keys: Sequence[str]) -> set[str]:
    """Which of the sorted keys are certainly not there."""
    prefix = _shared(keys[0], keys[-1])
    start_after = _before(keys[0], prefix)
    listed: set[str] = set()
    last: str | None = None
    token: str | None = None
    for _ in range(-(-len(keys) // NAMES_PER_PAGE)):
        page = await store.list(prefix, start_after=start_after if token is None else None, token=token)
        listed.update(entry.key for entry in page.entries)
        last = page.entries[-1].key if page.entries else last
        if (token := page.token) is None:
            break
    ended = token is None
    return {
        key
        for key in keys
        if key not in listed
        and (start_after is None or _follows(key, start_after))
        and (ended or (last is not None and _follows(last, key)))
    }


def _shared(first: str, last: str) -> str:
    """The beginning that two keys share."""
    same = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), None)
    return first[: min(len(first), len(last)) if same is None else same]


def _before(key: str, prefix: str) -> str | None:
    """A place just before `key` from which to list, or None for the beginning of `prefix`."""
    head = key[:-1]
    return None if len(head) <= len(prefix) or head.endswith("/") else head


def _follows(one: str, other: str) -> bool:
    """Whether `one` comes after `other` in byte order and in folder order, and not below it as its folder: after a
    folder's own name some stores skip what is in it.
    """
    return one.encode() > other.encode() and _folders(one) > _folders(other) and not one.startswith(f"{other}/")


def _folders(key: str) -> list[bytes]:
    return [segment.encode() for segment in key.split("/")]
