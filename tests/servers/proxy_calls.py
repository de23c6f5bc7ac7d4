"""What a request to a store (or to the signing API) is, seen from its outside: one record per request.

Classified from method and query alone, as any S3 server does, so that tests count store calls in the words of S3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote_to_bytes

CONTROL_QUERIES = ("acl", "cors", "lifecycle", "location", "object-lock", "policy", "tagging", "versioning")

_BUCKET_CALLS = {"PUT": "CreateBucket", "HEAD": "HeadBucket", "DELETE": "DeleteBucket"}
_OBJECT_CALLS = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}
_UPLOAD_CALLS = {
    "PUT": "UploadPart",
    "GET": "ListParts",
    "POST": "CompleteMultipartUpload",
    "DELETE": "AbortMultipartUpload",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A request's head. `raw`: its bytes as they came, to be forwarded as they are. Header names in lower case."""

    raw: bytes = field(repr=False)
    method: str
    path: str
    query: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    @classmethod
    def parse(cls, raw: bytes) -> Head:
        first, *lines = raw.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        path, _, query = target.partition("?")
        pairs = (line.partition(":") for line in lines if line)
        return cls(
            raw=raw,
            method=method,
            path=path,
            query={name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()},
            headers={name.strip().lower(): value.strip() for name, _, value in pairs},
        )

    @property
    def length(self) -> int | None:
        """Bytes of the body, 0 for none; None for a chunked one."""
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            return None
        return int(self.headers.get("content-length", "0"))

    @property
    def expects_continue(self) -> bool:
        return self.headers.get("expect", "").lower() == "100-continue"

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"

    @property
    def presigned(self) -> bool:
        """Signed in the query, as a client of Putgate sends it; else it is a control call."""
        return "X-Amz-Signature" in self.query


Classify = Callable[[Head], str]
"""What to call a request."""


def s3_kind(head: Head) -> str:
    """The S3 operation of a path-style request: `PutObject`, `UploadPart`, `ListObjects`, …"""
    _, _, key = head.path.removeprefix("/").partition("/")
    if not head.path.removeprefix("/"):
        return "ListBuckets"
    for control in CONTROL_QUERIES:
        if control in head.query:
            return f"{head.method.title()}{control.title()}"
    return _object_kind(head) if key else _bucket_kind(head)


def _object_kind(head: Head) -> str:
    copies = "x-amz-copy-source" in head.headers
    if "uploadId" in head.query:
        kind = _UPLOAD_CALLS.get(head.method, head.method)
        return "UploadPartCopy" if copies and kind == "UploadPart" else kind
    if head.method == "POST" and "uploads" in head.query:
        return "CreateMultipartUpload"
    kind = _OBJECT_CALLS.get(head.method, head.method)
    return "CopyObject" if copies and kind == "PutObject" else kind


def _bucket_kind(head: Head) -> str:
    if head.method == "GET":
        return "ListUploads" if "uploads" in head.query else "ListObjects"
    if head.method == "POST" and "delete" in head.query:
        return "DeleteObjects"
    return _BUCKET_CALLS.get(head.method, head.method)


def api_kind(head: Head) -> str:
    """A call of the signing API: `initiate_multipart_upload`, `batch`, …, `GET files`, `HEAD files`, …"""
    if head.path.split("?")[0].rstrip("/").endswith("/files") or "/files/" in head.path:
        return f"{head.method} files"
    return head.path.rstrip("/").rpartition("/")[2]


@dataclass(slots=True, kw_only=True)
class Call:
    """One request, from its arrival on. Not frozen: it fills while the request runs.

    `key`: the decoded path below the bucket. `body_bytes`: of the body, as far as the client has sent it.
    `status`: of the answer, the upstream's or the proxy's own; None while there is none. `fault`: the name of the
    fault that was put in, if any. `done`: nothing more will happen to it.
    """

    number: int
    method: str
    kind: str
    key: bytes
    presigned: bool
    head: Head = field(repr=False)
    length: int | None
    body_bytes: int = 0
    status: int | None = None
    fault: str | None = None
    done: bool = False

    @classmethod
    def of(cls, number: int, head: Head, classify: Classify) -> Call:
        _, _, key = head.path.removeprefix("/").partition("/")
        return cls(
            number=number,
            method=head.method,
            kind=classify(head),
            key=unquote_to_bytes(key),
            presigned=head.presigned,
            head=head,
            length=head.length,
        )

    @property
    def part_number(self) -> int | None:
        text = self.head.query.get("partNumber")
        return int(text) if text else None


Predicate = Callable[[Call], bool]
"""Which calls a rule or hook is about. Called in the proxy's thread, one call at a time: it may count."""


def kind(*kinds: str) -> Predicate:
    """Calls of these kinds."""
    return lambda call: call.kind in kinds


def nth(number: int, inner: Predicate) -> Predicate:
    """Only the `number`-th call, from 1, that `inner` accepts."""
    seen = 0

    def matches(call: Call) -> bool:
        nonlocal seen
        if not inner(call):
            return False
        seen += 1
        return seen == number

    return matches


def every(number: int, inner: Predicate) -> Predicate:
    """Each `number`-th call that `inner` accepts."""
    seen = 0

    def matches(call: Call) -> bool:
        nonlocal seen
        if not inner(call):
            return False
        seen += 1
        return seen % number == 0

    return matches
