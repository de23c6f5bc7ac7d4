"""`probe.json`: what the last probe found, so that not every replica has to probe the same store.

A result is worth something only to who would have got the same one: by the same endpoint, with the same credentials,
from the same version of the program. Everything else is as if there were none.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from putgate_api.records.keys import RecordKeys
from putgate_storage.errors import Refused
from putgate_storage.probe.report import Check, ProbeReport
from putgate_storage.store import ObjectHeaders, Store

_MAX_BYTES = 64 * 1024
_VERSION = 1

ROWS = hashlib.sha256("\n".join(sorted(Check)).encode()).hexdigest()[:16]
"""Tells one set of rows from another: a result that lacks a row grants nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedWith:
    """What a result depends on. `credentials`: whose, never themselves."""

    endpoint: str
    region: str
    provider: str
    addressing_style: str
    credentials: str
    program: str
    rows: str = ROWS


async def read_probe(store: Store, keys: RecordKeys, wanted: ProbedWith) -> ProbeReport | None:
    """The last result, or None where there is none that was got in the `wanted` way."""
    try:
        found = await store.get_small(keys.probe, _MAX_BYTES)
    except Refused:
        return None
    if found is None:
        return None
    try:
        tree = json.loads(found.body)
        if tree["version"] != _VERSION or tree["with"] != asdict(wanted):
            return None
        return ProbeReport.from_json(tree["report"])
    except (ValueError, TypeError, KeyError):
        return None


async def write_probe(store: Store, keys: RecordKeys, made_with: ProbedWith, report: ProbeReport) -> None:
    """Whoever writes last is right: results are of the same store."""
    tree = {"version": _VERSION, "with": asdict(made_with), "report": report.to_json()}
    body = json.dumps(tree, indent=1).encode()
    await store.put_small(keys.probe, body, headers=ObjectHeaders(content_type="application/json"))
