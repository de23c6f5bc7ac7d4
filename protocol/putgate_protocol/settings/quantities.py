"""Sizes and durations as people write them: `8Mi`, `15m`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

_UNITS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_SIZE = re.compile(r"(\d{1,19})([kMGT]|[KMGT]i)?", re.ASCII)
_DURATION = re.compile(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?", re.ASCII)


def parse_size(value: object) -> int:
    """Bytes from an integer or a quantity such as `8Mi` or `1G`. Raises `ValueError`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        return int(found[1]) * _UNITS[found[2] or ""]
    raise ValueError("a size is a whole number of bytes or a quantity such as 8Mi, 5Gi, 1T")


def parse_duration(value: object) -> timedelta:
    """A duration from `1h30m`, `15m`, `2.5s`, `500ms`. Raises `ValueError`."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and value.strip() and (found := _DURATION.fullmatch(value.strip())):
        hours, minutes, seconds, milliseconds = (float(g or 0) for g in found.groups())
        return timedelta(hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
    raise ValueError("a duration is written as 1h30m, 15m, 2s or 500ms")


def _duration_text(value: timedelta) -> str:
    return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


def _size(value: Any) -> int:
    return parse_size(value)


def _duration(value: Any) -> timedelta:
    return parse_duration(value)


Size = Annotated[int, BeforeValidator(_size)]
Duration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(_duration_text, when_used="json")]
