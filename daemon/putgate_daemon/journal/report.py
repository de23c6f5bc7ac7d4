"""What `putgate-daemon status` reads: the journal as it is, beside a daemon that writes it, without its lock."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from putgate_daemon.errors import JournalError
from putgate_daemon.journal.records import Failure, RootStatus, ScanRecord

SHOWN_FAILURES = 100
"""The most failed files that a report lists for one folder."""


def read(journal: Path) -> list[RootStatus] | None:
    """The folders that the journal knows; None where there is no journal yet. Raises `JournalError`."""
    if not journal.exists():
        return None
    try:
        with closing(sqlite3.connect(f"file:{quote(str(journal))}?mode=ro", uri=True)) as db:
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                # A daemon is just making it.
                return None
            return [_root(db, row) for row in db.execute("SELECT id, path, destination, state, detail FROM roots")]
    except sqlite3.Error as error:
        raise JournalError(f"journal {journal}: {error}") from error


def _root(db: sqlite3.Connection, row: tuple[int, bytes, str, str, str]) -> RootStatus:
    root = row[0]
    files, size = db.execute("SELECT count(*), coalesce(sum(size), 0) FROM files WHERE root = ?", (root,)).fetchone()
    (failed,) = db.execute("SELECT count(*) FROM failures WHERE root = ?", (root,)).fetchone()
    listed = db.execute(
        "SELECT path, change_key, code, detail, attempts, first_ns, retry_ns FROM failures WHERE root = ?"
        " ORDER BY path LIMIT ?",
        (root, SHOWN_FAILURES),
    )
    scan = db.execute(
        "SELECT started_ns, finished_ns, files, size, symlinks, specials, unwanted, blocked, queued FROM scans"
        " WHERE root = ?",
        (root,),
    ).fetchone()
    return RootStatus(
        path=row[1],
        destination=row[2],
        state=row[3],
        detail=row[4],
        files=files,
        size=size,
        failed=failed,
        failures={found[0]: _failure(found) for found in listed},
        last_scan=None if scan is None else _scan(scan),
    )


def _failure(row: tuple[bytes, str, str, str, int, int, int]) -> Failure:
    return Failure(change_key=row[1], code=row[2], detail=row[3], attempts=row[4], first_ns=row[5], retry_ns=row[6])


def _scan(row: tuple[int, int, int, int, int, int, int, int, int]) -> ScanRecord:
    return ScanRecord(
        started_ns=row[0],
        finished_ns=row[1],
        files=row[2],
        size=row[3],
        symlinks=row[4],
        specials=row[5],
        unwanted=row[6],
        blocked=row[7],
        queued=row[8],
    )
