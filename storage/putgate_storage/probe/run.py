"""Runs every canary against a store, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta

from putgate_storage.errors import Refused, StoreError, Transient, Unsupported
from putgate_storage.probe import canaries
from putgate_storage.probe.bench import Answer, Bench, inconclusive, outcome, together
from putgate_storage.probe.canaries import Canary
from putgate_storage.probe.report import Check, ProbeReport, Row
from putgate_storage.probe.sender import Sender
from putgate_storage.store import ListsUploads, Probeable, Store

FOLDER = ".putgate/v1/probe/"

_ROW_TIMEOUT = 30.0
"""Seconds. A row that takes longer is inconclusive; a healthy store answers the slowest in two."""

_CLEAN_TIMEOUT = 10.0
"""Seconds for cleaning up after a failure; what is left then, a later run finds."""

_LEFT_BEHIND = timedelta(hours=1)
"""The age at which another run's keys are surely nobody's any more."""

# First, because it decides how the other rows complete.
_FIRST: Mapping[Check, Canary] = {Check.COMPLETE_SHA256: canaries.complete_sha256}

_ROWS: Mapping[Check, Canary] = {
    Check.PART_ACCEPTED: canaries.part_accepted,
    Check.PART_SHA256: canaries.part_sha256,
    Check.PART_MD5: canaries.part_md5,
    Check.PART_LENGTH: canaries.part_length,
    Check.PART_SIGNATURE: canaries.part_signature,
    Check.PART_EXPIRY: canaries.part_expiry,
    Check.PART_COPY_SOURCE: canaries.part_extra(*canaries.COPY_SOURCE),
    Check.PART_COPY_SOURCE_MD5: canaries.part_copy_source_md5,
    Check.PART_ACL: canaries.part_extra(*canaries.ACL),
    Check.PART_GRANT: canaries.part_extra(*canaries.GRANT),
    Check.PART_TAGGING: canaries.part_extra(*canaries.TAGGING),
    Check.PART_META: canaries.part_extra(*canaries.META),
    Check.PUT_ACCEPTED: canaries.put_accepted,
    Check.PUT_SHA256: canaries.put_sha256,
    Check.PUT_MD5: canaries.put_md5,
    Check.PUT_LENGTH: canaries.put_length,
    Check.PUT_SIGNATURE: canaries.put_signature,
    Check.PUT_EXPIRY: canaries.put_expiry,
    Check.PUT_COPY_SOURCE: canaries.put_extra(*canaries.COPY_SOURCE),
    Check.PUT_ACL: canaries.put_extra(*canaries.ACL),
    Check.PUT_GRANT: canaries.put_extra(*canaries.GRANT),
    Check.PUT_TAGGING: canaries.put_extra(*canaries.TAGGING),
    Check.PUT_META: canaries.put_extra(*canaries.META),
    Check.PUT_IF_ABSENT: canaries.put_if_absent,
    Check.PUT_IF_MATCH: canaries.put_if_match,
    Check.COMPLETE_CONDITION: canaries.complete_condition,
    Check.COMPLETE_AGAINST_PUT: canaries.complete_against_put,
    Check.PART_AFTER_COMPLETE: canaries.part_after_complete,
    Check.PART_AFTER_ABORT: canaries.part_after_abort,
    Check.COMPLETE_AFTER_OVERWRITE: canaries.complete_after_overwrite,
    Check.COMPLETE_AFTER_DELETE: canaries.complete_after_delete,
    Check.LIST_PARTS_PAGES: canaries.list_parts_pages,
    Check.PART_ETAG_MD5: canaries.part_etag_md5,
    Check.PART_COPY_RANGE: canaries.part_copy_range,
    Check.PART_COPY_WHOLE: canaries.part_copy_whole,
    Check.DELETE_IF_MATCH: canaries.delete_if_match,
}


async def probe(store: Store, prefix: str, sender: Sender) -> ProbeReport:
    """What `store` enforces, seen with throw-away keys below `prefix`. All rows run side by side.

    Raises `Unsupported` for a driver that is not `Probeable`; `Permanent` where the store does not serve us at all,
    which says nothing of what it enforces; and any `StoreError` of cleaning up: keys that stay would be the admin's
    to find. Cancelled, it still cleans up.
    """
    if not isinstance(store, Probeable):
        raise Unsupported("this driver cannot be probed", code="NotProbeable")
    bench = Bench(store, sender, f"{prefix}{FOLDER}{secrets.token_hex(8)}/")
    try:
        answers = {check: await _answer(bench, canary) for check, canary in _FIRST.items()}
        rows = await together(*(_answer(bench, canary) for canary in _ROWS.values()))
        answers |= dict(zip(_ROWS, rows, strict=True))
    except BaseException:
        # What ends the probe is the news; that cleaning up failed as well must not take its place.
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_CLEAN_TIMEOUT):
                await bench.clean()
        raise
    await bench.clean()
    await _clean_left_behind(store, prefix)
    return _report(answers, store.now())


async def _answer(bench: Bench, canary: Canary) -> Answer:
    try:
        async with asyncio.timeout(_ROW_TIMEOUT):
            return await canary(bench)
    except TimeoutError:
        return inconclusive(f"no end after {_ROW_TIMEOUT:g} s")
    except (Refused, Transient, Unsupported) as error:
        return outcome(error)


async def _clean_left_behind(store: Store, prefix: str) -> None:
    """Keys and uploads of runs that were killed; a store that fails here has been probed all the same."""
    old = store.now() - _LEFT_BEHIND
    with contextlib.suppress(StoreError):
        for entry in (await store.list(f"{prefix}{FOLDER}")).entries:
            if entry.modified < old:
                await store.delete(entry.key)
        if isinstance(store, ListsUploads):
            for found in await store.list_uploads(f"{prefix}{FOLDER}"):
                if found.initiated is not None and found.initiated < old:
                    await store.abort(found.upload)


def _report(answers: Mapping[Check, Answer], now: datetime) -> ProbeReport:
    rows = tuple(Row(check=check, verdict=answers[check].verdict, seen=answers[check].seen) for check in Check)
    return ProbeReport(rows=rows, probed_at=now)
