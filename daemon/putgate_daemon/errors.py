"""What can stop the daemon, or one folder of it. What goes wrong with one file is a value (`transfer.Missed`).

DaemonError
├── JournalError        the journal cannot be used at all
│   ├── JournalInUse    another daemon has it
│   ├── JournalTooNew   a newer version wrote it
│   └── JournalForeign  it is another program's database
├── RuleError           a pattern of a folder's rules is not one
├── FoldersError        two folders are one
├── TokenError          the token cannot be read
├── TrustError          the CA file cannot be read
└── RootMissing         a folder is not there (now); never a reason to forget its files
"""

from __future__ import annotations


class DaemonError(Exception):
    """The root of the tree; its message says what, where, and what to do."""


class JournalError(DaemonError):
    pass


class JournalInUse(JournalError):
    pass


class JournalForeign(JournalError):
    """The file is another program's database. It is not touched."""


class JournalTooNew(JournalError):
    pass


class RuleError(DaemonError):
    pass


class FoldersError(DaemonError):
    pass


class TokenError(DaemonError):
    pass


class TrustError(DaemonError):
    pass


class RootMissing(DaemonError):
    pass
