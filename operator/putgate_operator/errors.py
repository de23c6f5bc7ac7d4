"""What can go wrong between the operator and its cluster.

    OperatorError
    ├── Unreachable     the API server does not answer, or answers 5xx or 429: try again
    ├── Conflict        somebody else has changed the object meanwhile: look again
    │   └── AlreadyExists   the object to be created is there
    ├── Gone            the object to be changed is not there any longer
    ├── Forbidden       a role, a quota or an admission policy does not allow it: an admin's work
    ├── Invalid         the API server refuses what was sent: a defect, or an admission policy
    ├── Failing         the API server answers 500: an admission webhook's failure, or its own
    ├── Hindered        one child could not be made what it should be, for either reason, or because others undo it
    ├── NotLeader       this process may not write now: another leads, or may
    └── InvalidUploadBucket   (resources) an object that its schema should not have let in

Absent is None.
"""

from __future__ import annotations


class OperatorError(Exception):
    """`code`: stable, for logs and metrics."""

    code = "error"


class Unreachable(OperatorError):
    code = "unreachable"


class Conflict(OperatorError):
    code = "conflict"


class AlreadyExists(Conflict):
    code = "already_exists"


class Gone(OperatorError):
    code = "gone"


class _Refused(OperatorError):
    """`said`: the API server's own words."""

    def __init__(self, what: str, said: str) -> None:
        super().__init__(f"{what}: {said}")
        self.said = said


class Forbidden(_Refused):
    code = "forbidden"


class Invalid(_Refused):
    code = "invalid"


class Failing(_Refused):
    code = "failing"


class Hindered(OperatorError):
    """`reason`, `message`, `user_error`: as a condition says it. `again`: seconds until the next try, where that is
    known; then all that could be written has been.
    """

    code = "hindered"

    def __init__(self, reason: str, message: str, *, user_error: bool = False, again: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.user_error = user_error
        self.again = again


class NotLeader(OperatorError):
    code = "not_leader"
