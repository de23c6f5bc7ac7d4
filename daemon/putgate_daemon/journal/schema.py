"""The journal's tables, and how a file of theirs is opened."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from putgate_daemon.errors import JournalForeign, JournalTooNew

APPLICATION_ID = 0x50674A31
"""`PgJ1`: tells our file from any other SQLite database."""

VERSION = 2

_TABLES = """
CREATE TABLE roots (
  id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, destination TEXT NOT NULL,
  device TEXT, inode TEXT, state TEXT NOT NULL DEFAULT 'new', detail TEXT NOT NULL DEFAULT ''
);
CREATE TABLE files (
  root INTEGER NOT NULL, path BLOB NOT NULL, change_key TEXT NOT NULL, size INTEGER NOT NULL, file_hash TEXT,
  uploaded_ns INTEGER NOT NULL, racy_until_ns INTEGER NOT NULL, PRIMARY KEY (root, path)
) WITHOUT ROWID;
CREATE TABLE failures (
  root INTEGER NOT NULL, path BLOB NOT NULL, change_key TEXT NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL,
  attempts INTEGER NOT NULL, first_ns INTEGER NOT NULL, retry_ns INTEGER NOT NULL, PRIMARY KEY (root, path)
) WITHOUT ROWID;
CREATE INDEX failures_by_retry ON failures (root, retry_ns);
CREATE TABLE uploads (
  name BLOB PRIMARY KEY, change_key TEXT NOT NULL, part_size INTEGER NOT NULL, part_hashes BLOB NOT NULL,
  upload_id TEXT, part_md5s BLOB NOT NULL DEFAULT x''
) WITHOUT ROWID;
CREATE TABLE scans (
  root INTEGER PRIMARY KEY, started_ns INTEGER NOT NULL, finished_ns INTEGER NOT NULL, files INTEGER NOT NULL,
  size INTEGER NOT NULL, symlinks INTEGER NOT NULL, specials INTEGER NOT NULL, unwanted INTEGER NOT NULL,
  blocked INTEGER NOT NULL, queued INTEGER NOT NULL
);
"""


_SINCE_1 = "ALTER TABLE uploads ADD COLUMN part_md5s BLOB NOT NULL DEFAULT x''"


def check_ours(path: Path) -> None:
    """Raises `JournalForeign` for another program's database, without writing to it or to what belongs to it.

    What is no database at all, or a damaged one, is not judged here; nor what is still in a write-ahead log alone.
    """
    if not path.exists() or path.stat().st_size == 0:
        return
    with contextlib.suppress(sqlite3.DatabaseError):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        with contextlib.closing(connection):
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION_ID and (tables or application):
            raise JournalForeign(
                f"{path} is another program's database, and left as it is; name another file as journal"
            )


def prepare(connection: sqlite3.Connection, *, doubtful: bool) -> None:
    """Check a journal, or make an empty one. `doubtful`: it was not closed, so its pages are checked too.

    Raises `JournalTooNew`, and `sqlite3.DatabaseError` for a damaged file or one that is no database.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    empty = version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    if not empty and application != APPLICATION_ID:
        raise sqlite3.DatabaseError("not a journal of this program")
    connection.execute("PRAGMA journal_mode = WAL")
    # A power cut may cost the last commits, never the file: what they said is found out again.
    connection.execute("PRAGMA synchronous = NORMAL")
    if empty:
        connection.executescript(
            f"BEGIN; {_TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
        )
        return
    if version > VERSION:
        raise JournalTooNew(f"the journal has version {version}, this program writes {VERSION}; use a newer program")
    if doubtful and (found := connection.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
        raise sqlite3.DatabaseError(str(found[0]))
    if version < VERSION:
        connection.executescript(f"BEGIN; {_SINCE_1}; PRAGMA user_version = {VERSION}; COMMIT;")
