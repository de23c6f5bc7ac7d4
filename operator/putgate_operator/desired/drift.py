"""Whether a live object still is what its manifest says, however the API server writes it down.

The hash alone would miss what others changed; comparing alone would miss fields that a newer manifest no longer has.
Fields that the manifest does not name belong to others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from putgate_operator.desired.manifest import HASH
from putgate_operator.observed import Manifest, Raw, dig

_QUANTITY = re.compile(r"([+-]?[0-9.]+)(?:([eE][+-]?[0-9]+)|([KMGTPE]i|[numkMGTPE]))?", re.ASCII)
_UNITS = {
    **{unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
    **{unit: Decimal(1000) ** power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    **{unit: Decimal(1000) ** -power for power, unit in enumerate(("m", "u", "n"), start=1)},
}

_QUANTITIES = ("limits", "requests")
"""Fields whose values are quantities, which the API server writes in its own way."""

_OMITTED = ("paused", "hostNetwork")
"""Fields that the API server leaves out when they are false."""

_ALONE = ("containers",)
"""Lists in which nobody else may have entries: what runs beside credentials is the operator's choice."""

_KEYS = ("uid", "mountPath", "containerPort", "name")
"""By which the API server merges lists of objects: the first that all entries have, each another."""


def unchanged(live: Raw | None, manifest: Manifest) -> bool:
    """True where applying `manifest` would change nothing."""
    if live is None or dig(live, "metadata", "annotations", HASH) != manifest["metadata"]["annotations"][HASH]:
        return False
    return holds(live, manifest)


def holds(live: Any, wanted: Any, field: str = "") -> bool:
    """Whether `live` has everything that is `wanted`."""
    if live is None:
        return wanted is None or wanted in ("", [], {}) or (field in _OMITTED and wanted is False)
    if isinstance(wanted, Mapping):
        inner = field if field in _QUANTITIES else ""
        return isinstance(live, Mapping) and all(
            holds(live.get(key), value, inner or str(key)) for key, value in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        alone = field not in _ALONE or len(live) == len(wanted)
        return isinstance(live, list | tuple) and alone and _list_holds(live, wanted)
    if field in _QUANTITIES:
        return quantity(live) == quantity(wanted)
    return type(live) is type(wanted) and bool(live == wanted)


def _list_holds(live: list[Any] | tuple[Any, ...], wanted: list[Any] | tuple[Any, ...]) -> bool:
    if key := _key(wanted):
        entries = {entry.get(key): entry for entry in live if isinstance(entry, Mapping)}
        return all(holds(entries.get(entry[key]), entry) for entry in wanted)
    return len(live) == len(wanted) and all(map(holds, live, wanted))


def _key(entries: list[Any] | tuple[Any, ...]) -> str | None:
    if not entries or not all(isinstance(entry, Mapping) for entry in entries):
        return None
    found = (key for key in _KEYS if all(key in entry for entry in entries))
    return next((key for key in found if len({entry[key] for entry in entries}) == len(entries)), None)


def quantity(value: object) -> Decimal | str:
    """The number that a quantity stands for; what is none stays as it is, and equals only itself."""
    found = _QUANTITY.fullmatch(str(value))
    if found is None:
        return str(value)
    number, exponent, unit = found.groups()
    try:
        plain = Decimal(number + (exponent or ""))
    except ArithmeticError:
        return str(value)
    return plain * _UNITS.get(unit, Decimal(1))
