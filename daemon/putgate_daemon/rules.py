"""What of a folder is wanted: gitignore-style rules, a built-in list of temporary names, and the daemon's own files.

Knows no file system: paths in, decisions out. The last rule that matches decides, the built-in list comes first, so
`!*.tmp` takes temporary names back in. As in gitignore, nothing below an unwanted directory is taken back.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Sequence

from pathspec import GitIgnoreSpec

from putgate_daemon.errors import RuleError

TEMPORARY = (
    "*.tmp",
    "*.temp",
    "*.part",
    "*.partial",
    "*.filepart",
    ".putgate-*.parts",
    "*.crdownload",
    "*.aria2",
    "*.swp",
    "*.swo",
    "*.swx",
    "*~",
    ".#*",
    "#*#",
    "~$*",
    ".~lock.*#",
    ".nfs????????*",
    ".fuse_hidden*",
    ".goutputstream-*",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
)
"""Names that programs give to files they have not finished, or keep for themselves. `*` and `?` as in a shell."""

_TEMPORARY = re.compile("|".join(f"(?:{fnmatch.translate(name)})" for name in TEMPORARY).encode(), re.DOTALL)


class Rules:
    """The rules of one folder. `own`: files of the daemon itself; `nested`: folders inside it with rules of their own.

    Raises `RuleError` for a pattern that is none.
    """

    __slots__ = ("_aside", "_nested", "_own", "_spec")

    def __init__(self, lines: Sequence[str] = (), own: OwnFiles | None = None, nested: Iterable[bytes] = ()) -> None:
        try:
            # The plain backend: which one is installed must not decide what is uploaded.
            self._spec = GitIgnoreSpec.from_lines(lines, backend="simple") if lines else None
        except ValueError as error:
            raise RuleError(f"rules: {error}") from error
        self._own = own.paths if own else frozenset()
        self._aside = own.aside if own else None
        self._nested = frozenset(nested)

    def wanted(self, path: bytes, *, directory: bool = False) -> bool:
        """Whether this path is wanted, given that the directories above it are."""
        if directory and path in self._nested:
            return False
        if not directory and (path in self._own or (self._aside is not None and path.startswith(self._aside))):
            return False
        if self._spec is not None:
            # Patterns have no line feed, and the expressions made of them stop at one; no path holds a NUL.
            text = os.fsdecode(path).replace("\n", "\0")
            said = self._spec.check_file(f"{text}/" if directory else text).include
            if said is not None:
                return not said
        return directory or not _TEMPORARY.match(path[path.rfind(b"/") + 1 :])

    def wanted_throughout(self, path: bytes, *, directory: bool = False) -> bool:
        """Whether a path is wanted, with every directory above it."""
        at = path.find(b"/")
        while at != -1:
            if not self.wanted(path[:at], directory=True):
                return False
            at = path.find(b"/", at + 1)
        return self.wanted(path, directory=directory)


class OwnFiles:
    """Files of the daemon that may lie inside a folder: uploading the journal would change it, for ever; and the
    token is nobody else's. `paths` are relative to the folder, `aside` begins the names of journals set aside.
    """

    __slots__ = ("aside", "paths")

    def __init__(self, root: bytes, journal: bytes, others: Iterable[bytes] = ()) -> None:
        """All absolute and resolved."""
        journal_here = below(root, journal)
        self.aside = None if journal_here is None else journal_here + b".corrupt-"
        journals = [journal + suffix for suffix in (b"", b"-wal", b"-shm", b"-journal", b".lock")]
        inside = (below(root, path) for path in (*journals, *others))
        self.paths = frozenset(path for path in inside if path is not None)


def below(root: bytes, path: bytes) -> bytes | None:
    """`path` relative to `root`, or None where it does not lie below it. Both absolute."""
    start = root.rstrip(b"/") + b"/"
    return path[len(start) :] if path.startswith(start) and len(path) > len(start) else None
