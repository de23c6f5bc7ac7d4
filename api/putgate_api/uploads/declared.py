"""A request to initiate, checked: everything that can be said of it without asking the store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from putgate_api.auth.access import require
from putgate_api.auth.caller import Caller
from putgate_api.records.parts import Digests
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.content import PREFIX, Content
from putgate_protocol.digests import FileHash, Md5, PartHash
from putgate_protocol.messages.initiate import InitiateRequest
from putgate_protocol.names import Name
from putgate_protocol.parts import PartPlan
from putgate_protocol.problems import problem
from putgate_storage.probe.report import Tier

_METADATA_KEY = re.compile(r"[a-z0-9][a-z0-9-]*")
_METADATA_VALUE = re.compile(r"[\x21-\x7e]+( [\x21-\x7e]+)*")
"""Printable ASCII. Runs of spaces are not kept the same by every way into a store."""
_CONTENT_TYPE = re.compile(
    r"[\w!#$&^.+*-]+/[\w!#$&^.+*-]+( *; *[\w!#$&^.+*-]+=([\w!#$&^.+*:/-]+|\"[\x20-\x21\x23-\x5b\x5d-\x7e]*\"))*",
    re.ASCII,
)
_MAX_METADATA_BYTES = 1024
"""S3 allows 2 KiB of user metadata in all; Putgate's own takes some of it."""

_CLOSED_RETRY = 60.0
"""Seconds. It is minutes at the least until the store is looked at again."""

DEFAULT_CONTENT_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A file that a caller has declared, whose part hashes do make its file hash. `md5`: empty unless required. A
    stream is one of no bytes yet. `tier`: what the store checks of it.
    """

    caller: Caller
    name: Name
    key: str
    plan: PartPlan
    file_hash: FileHash
    parts: tuple[PartHash, ...]
    md5: tuple[Md5, ...]
    content_type: str
    metadata: Mapping[str, str]
    if_absent: bool
    if_match: str | None
    recheck: int
    tier: Tier
    streamed: bool = False

    @property
    def conditional(self) -> bool:
        return self.if_absent or self.if_match is not None

    @property
    def digests(self) -> Digests:
        return Digests(sha256=self.parts, md5=self.md5)

    def content(self, nonce: str) -> Content:
        return Content(
            nonce=nonce,
            file_hash=self.file_hash,
            size=self.plan.size,
            part_size=self.plan.part_size,
            owner=self.caller.owner,
            streamed=self.streamed,
            tier=self.tier,
        )


def declare(bucket: Bucket, caller: Caller, request: InitiateRequest) -> Declared:
    """Check a request; raises the problem of the first rule that it breaks, `not_ready` where nothing may begin."""
    name = request.parsed_name()
    key = bucket.key(name)
    size = _size(bucket, request.size)
    require(caller, "upload", name, size)
    check_open(bucket)
    plan = bucket.facts.rule.plan(size)
    if request.part_size != plan.part_size:
        raise problem(
            "part_size_mismatch",
            f"a file of {size} bytes has parts of {plan.part_size} bytes here, not {request.part_size}; "
            "read part_limit again",
        )
    file_hash, parts = _hashes(request, plan)
    if request.if_absent and request.if_match is not None:
        raise problem("request_invalid", "if_absent and if_match exclude each other")
    return Declared(
        caller=caller,
        name=name,
        key=key,
        plan=plan,
        file_hash=file_hash,
        parts=parts,
        md5=_md5(bucket, request, plan),
        content_type=checked_content_type(bucket, request.content_type),
        metadata=checked_metadata(request.metadata or {}),
        if_absent=request.if_absent,
        if_match=request.if_match,
        recheck=request.recheck,
        tier=bucket.abilities.tier,
    )


def check_open(bucket: Bucket) -> None:
    """Raises `not_ready` where nothing may be sent at present."""
    if bucket.closed is not None:
        raise problem("not_ready", f"nothing may be sent here: {bucket.closed}", retry_after=_CLOSED_RETRY)


def _size(bucket: Bucket, size: int) -> int:
    if size < 0:
        raise problem("size_invalid", f"a size of {size} bytes is negative")
    if size > bucket.limits.max_object_size:
        raise problem(
            "too_large", f"{size} bytes are more than the {bucket.limits.max_object_size} that a file may have here"
        )
    return size


def _hashes(request: InitiateRequest, plan: PartPlan) -> tuple[FileHash, tuple[PartHash, ...]]:
    if len(request.parts) != plan.count:
        raise problem("parts_mismatch", f"{plan.size} bytes make {plan.count} parts; {len(request.parts)} were named")
    if request.md5 is not None and len(request.md5) != plan.count:
        raise problem("parts_mismatch", f"{plan.count} parts have as many MD5s; {len(request.md5)} were named")
    try:
        file_hash = FileHash.parse(request.file_hash)
        parts = tuple(map(PartHash.parse, request.parts))
    except ValueError as error:
        raise problem("request_invalid", f"file_hash and parts: {error}") from None
    if FileHash.of(parts) != file_hash:
        raise problem("hash_mismatch", "the part hashes do not make the file hash")
    return file_hash, parts


def _md5(bucket: Bucket, request: InitiateRequest, plan: PartPlan) -> tuple[Md5, ...]:
    """What is not needed is not signed either, so that it changes nothing."""
    if request.md5 is None and bucket.requires_md5 and plan.count:
        raise problem("md5_required", "this store checks parts by MD5 only: give md5 too, and read part_limit again")
    try:
        md5 = tuple(map(Md5.parse, request.md5 or ()))
    except ValueError as error:
        raise problem("request_invalid", f"md5: {error}") from None
    return md5 if bucket.requires_md5 else ()


def checked_content_type(bucket: Bucket, content_type: str | None) -> str:
    if content_type is None:
        content_type = DEFAULT_CONTENT_TYPE
    elif not _CONTENT_TYPE.fullmatch(content_type):
        raise problem("content_type_refused", "content_type is not a media type such as text/plain")
    allowed = bucket.limits.allowed_content_types
    if allowed and content_type.partition(";")[0].strip().lower() not in allowed:
        raise problem("content_type_refused", f"content type {content_type} is not one of those allowed here")
    return content_type


def checked_metadata(metadata: Mapping[str, str]) -> Mapping[str, str]:
    for key, value in metadata.items():
        if not _METADATA_KEY.fullmatch(key) or key.startswith(PREFIX):
            raise problem("metadata_invalid", f"metadata keys are [a-z0-9-]+ and do not begin with {PREFIX!r}: {key!r}")
        if not _METADATA_VALUE.fullmatch(value):
            raise problem(
                "metadata_invalid", f"the metadata value of {key!r} is not printable ASCII with single spaces"
            )
    if sum(len(key) + len(value) for key, value in metadata.items()) > _MAX_METADATA_BYTES:
        raise problem("metadata_invalid", f"metadata has more than {_MAX_METADATA_BYTES} bytes in all")
    return metadata
