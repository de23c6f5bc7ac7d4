"""What a browser does with a file: show it, or save it under which name. Pure.

The store answers a signed GET with the headers that are signed into it, so this is where content that somebody else
uploaded is kept from running in a reader's browser. Callers' wishes only ever make it stricter.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from putgate_protocol.names import Name

Policy = Literal["AttachActiveContent", "Attach", "Inline"]
"""The bucket's: all but inert types is saved; everything is saved; everything is shown."""

INERT_TYPES = frozenset(
    {
        "application/octet-stream",
        "application/pdf",
        "audio/mpeg",
        "audio/ogg",
        "image/avif",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/plain",
        "video/mp4",
        "video/webm",
    }
)
"""Types that a browser shows without running anything; every other type is saved."""

MAX_BYTES = 255
"""Of a file's name, in UTF-8: what file systems take."""

UNNAMED = "download"
"""Where nothing of a name is left that may stand."""

# A comma would make two types of one header, of which browsers take the last (Fetch standard, "extract a MIME type").
_PLAIN_TYPE = re.compile(r'([!#$&^_.+\w-]+/[!#$&^_.+\w-]+)(?:[ \t]*;[ \t]*[\w-]+="?[\w.+-]+"?)*', re.ASCII)

_SEPARATORS = frozenset('/\\:*?"<>|')
"""What means a folder, a drive or a stream to one system or another, or ends a quoted string."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a caller asks for. `inline`: False forces saving; True and None leave it to the policy."""

    filename: str | None = None
    inline: bool | None = None


AS_IT_IS = Wish()
"""Nothing in particular."""


def disposition(policy: Policy, content_type: str, name: Name, wish: Wish) -> str:
    """The value of `Content-Disposition` (RFC 6266)."""
    shown = policy == "Inline" or (policy == "AttachActiveContent" and is_inert(content_type))
    kind = "inline" if shown and wish.inline is not False else "attachment"
    asked = wish.filename
    if asked is None:
        asked = name.raw.rpartition(b"/")[2].decode("utf-8", "replace")
    return f"{kind}; {_parameters(file_name(asked))}"


def is_inert(content_type: str) -> bool:
    found = _PLAIN_TYPE.fullmatch(content_type.strip(" \t"))
    return found is not None and found[1].lower() in INERT_TYPES


def file_name(text: str) -> str:
    """`text` as one segment that every system can keep: no path, no control or invisible character, not too long."""
    plain = "".join(char if _stands(char) else "_" for char in text).strip()
    shortened = _shortened(plain).rstrip()
    return UNNAMED if not shortened.strip(". _") else shortened


def _stands(char: str) -> bool:
    # Categories C*: control, format (bidirectional overrides make gpj.exe of exe.jpg), surrogate; Zl, Zp: line ends.
    category = unicodedata.category(char)
    return char not in _SEPARATORS and not category.startswith("C") and category not in {"Zl", "Zp"}


def _shortened(text: str) -> str:
    """To `MAX_BYTES`; what is after the last dot stays, because it says what the file is."""
    if len(text.encode()) <= MAX_BYTES:
        return text
    stem, dot, ending = text.rpartition(".")
    if not dot or len(ending.encode()) > MAX_BYTES // 4:
        stem, dot, ending = text, "", ""
    room = MAX_BYTES - len((dot + ending).encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + dot + ending


def _parameters(filename: str) -> str:
    """`filename` for old programs; beside it, where ASCII does not do, `filename*` (RFC 8187), which goes before it."""
    # Some programs decode percent signs in the plain form (RFC 6266, appendix D).
    plain = "".join(char if char.isascii() and char != "%" else "_" for char in filename)
    quoted = f'filename="{plain}"'
    return quoted if plain == filename else f"{quoted}; filename*=UTF-8''{quote(filename, safe='')}"
