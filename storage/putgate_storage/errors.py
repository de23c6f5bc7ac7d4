"""What can go wrong with a store, in three kinds. What is absent is None, never an error.

    StoreError
    ├── Refused             the store understood and says no; the same request will be refused again
    │   └── ConditionFailed an If-None-Match or If-Match did not hold (412; on some stores 409)
    ├── Transient           time-out, lost connection, 5xx, slow down: it may or may not have happened; try again
    └── Permanent           it can never work: no such bucket, wrong credentials, unsupported
        └── Unsupported     the store does not know the operation or the condition (501)

Every driver translates its library's errors into these, chained with `from`. Messages name the operation and the
key, never credentials or a URL's query.
"""

from __future__ import annotations


class StoreError(Exception):
    """The root. `code`: the store's own error code, or a short word of the driver's, for logs and metrics."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class Refused(StoreError):
    """The store understood and said no."""


class ConditionFailed(Refused):
    """The precondition of a write did not hold."""


class Transient(StoreError):
    """It may or may not have happened. `delay`: seconds that the store asked for, where it did."""

    def __init__(self, message: str, *, code: str, delay: float | None = None) -> None:
        super().__init__(message, code=code)
        self.delay = delay


class Permanent(StoreError):
    """It can never work without somebody changing something."""


class Unsupported(Permanent):
    """The store does not know this operation or condition."""
