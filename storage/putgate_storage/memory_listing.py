"""One page of a listing over keys in memory, in S3's order: by the bytes of whole keys. Pure."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from putgate_storage.errors import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    keys: Sequence[str]
    prefixes: Sequence[str]
    token: str | None


def page_of(
    present: Iterable[str],
    prefix: str,
    *,
    delimiter: str | None,
    start_after: str | None,
    token: str | None,
    limit: int,
) -> Rows:
    """Raises `Refused` for a token that was not given out here."""
    after = (start_after or "").encode() if token is None else _read_token(token)
    wanted = sorted(key.encode() for key in present if key.startswith(prefix) and key.encode() > after)
    keys: list[str] = []
    prefixes: list[str] = []
    last = b""
    for row, members in itertools.groupby(wanted, key=lambda key: _row(key.decode(), prefix, delimiter)):
        if len(keys) + len(prefixes) == limit:
            return Rows(keys=keys, prefixes=prefixes, token=_token(last))
        if delimiter and row.endswith(delimiter):
            prefixes.append(row)
            # No key has this byte, so going on from here skips all that the common prefix stands for.
            last = row.encode() + b"\xff"
        else:
            keys += [key.decode() for key in members]
            last = row.encode()
    return Rows(keys=keys, prefixes=prefixes, token=None)


def _row(key: str, prefix: str, delimiter: str | None) -> str:
    """What a listing shows for a key: itself, or the common prefix that stands for it."""
    if not delimiter:
        return key
    end = key.find(delimiter, len(prefix))
    return key if end < 0 else key[: end + len(delimiter)]


def _token(last: bytes) -> str:
    return base64.urlsafe_b64encode(b"1" + last).decode()


def _read_token(token: str) -> bytes:
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    if not raw.startswith(b"1"):
        raise Refused("the continuation token is not one of this store", code="InvalidArgument")
    return raw[1:]
