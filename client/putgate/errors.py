"""What can go wrong on the client's own side of an upload or download.

    ClientError
    ├── Unreachable      no usable answer from the API or the store; it may or may not have happened. Transient
    ├── StoreRefused     the store answered a signed request with a no that trying again did not cure
    ├── SourceChanged    the file changed while it was read; nothing mixed was stored. Upload it again
    ├── WrongSize        a stream had another size than was said; nothing was stored
    ├── AnswerUnreadable the server answered something that is not of this protocol
    ├── FileReplaced     the stored file was replaced or removed while it was downloaded; no file was written
    └── NotVerified      downloaded bytes are not those that were stored; no file was written

What the API itself says no to is a `putgate_protocol.problems.Problem`. Messages never hold a URL's query, a token
or file content; that is why an HTTP library's exceptions never leave this package.
"""

from __future__ import annotations


class ClientError(Exception):
    """The root."""


class Unreachable(ClientError):
    """No usable answer. `given_up`: it was tried again until the time for that was over. `retry_after`: seconds that
    whoever answered asks to wait, if it did.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.given_up = False


class StoreRefused(ClientError):
    """The store's final no. `status`: the HTTP status it gave last."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class SourceChanged(ClientError):
    """The source is not what it was when reading began."""


class WrongSize(ClientError):
    """A stream ended before, or went on after, the size that its caller expects."""


class AnswerUnreadable(ClientError):
    """Not an answer of this protocol: a wrong URL, a proxy's page, or a server newer than this client."""


class FileReplaced(ClientError):
    """The name holds something else than when the download began."""


class NotVerified(ClientError):
    """The bytes that arrived have another size or hash than the file."""
