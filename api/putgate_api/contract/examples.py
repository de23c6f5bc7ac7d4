"""Requests and answers as they are on the wire. Tests hold each to its model, and to the others: hashes fit sizes.

URLs are shortened; no signature in them was ever good for anything.
"""

from __future__ import annotations

from typing import Any

from putgate_protocol.digests import FileHash, PartHash
from putgate_protocol.parts import MIB, PartRule

Json = dict[str, Any]

RULE = PartRule(part_size=8 * MIB, max_parts=10_000)

_SIZE = 20 * MIB
_PLAN = RULE.plan(_SIZE)
_PARTS = [PartHash.of(b"part %d of a large file" % part.number) for part in _PLAN]
_HASH = str(FileHash.of(_PARTS))
_SMALL = b"hello, world\n"
_SMALL_PARTS = [PartHash.of(_SMALL)]
_SMALL_HASH = str(FileHash.of(_SMALL_PARTS))

_MORNING, _QUARTER_LATER, _NEXT_DAY = "2026-11-23T08:00:00Z", "2026-11-23T08:15:00Z", "2026-11-24T08:00:00Z"
_TOKEN = "AQJrMVsi4oCmIl0"  # noqa: S105 - the look of an upload id, sealed with no key
_VERSION = "9b2cf535f27731c974343645a3985328-3"

PART_LIMIT: Json = {
    "hash_algorithm": "sha256",
    "part_size": RULE.part_size,
    "max_parts": RULE.max_parts,
    "max_object_size": 5 * 1024**4,
    "max_signed_parts": 1000,
    "put_max_size": RULE.part_size,
    "instant_min_size": 256 * 1024,
    "requires_md5": False,
}

INITIATE: Json = {
    "name": "photos/cat.raw",
    "size": _SIZE,
    "part_size": _PLAN.part_size,
    "file_hash": _HASH,
    "parts": [str(part) for part in _PARTS],
    "content_type": "image/x-raw",
    "metadata": {"camera": "x100"},
}

INITIATE_SMALL: Json = {
    "name": "notes/hello.txt",
    "size": len(_SMALL),
    "part_size": RULE.part_size,
    "file_hash": _SMALL_HASH,
    "parts": [str(part) for part in _SMALL_PARTS],
    "content_type": "text/plain",
}


def _signed(number: int) -> Json:
    part = _PLAN.part(number)
    return {
        "part_number": number,
        "method": "PUT",
        "url": f"https://s3.example.com/media/photos/cat.raw?partNumber={number}&uploadId=…&X-Amz-Signature=…",
        "headers": {"x-amz-checksum-sha256": _PARTS[number - 1].base64},
        "offset": part.offset,
        "length": part.length,
        "expires_at": _QUARTER_LATER,
        "expires_in": 899,
    }


UPLOAD: Json = {
    "status": "upload",
    "upload_id": _TOKEN,
    "expires_at": _NEXT_DAY,
    "expires_in": 86_399,
    "commit": "complete",
    "parts": [_signed(1), _signed(3)],
    "uploaded": [{"part_number": 2, "length": _PLAN.part(2).length}],
}

ONE_PUT: Json = {
    "status": "upload",
    "upload_id": _TOKEN,
    "expires_at": _NEXT_DAY,
    "expires_in": 86_399,
    "commit": "put",
    "parts": [
        {
            "part_number": 1,
            "method": "PUT",
            "url": "https://s3.example.com/media/notes/hello.txt?X-Amz-Signature=…",
            "headers": {
                "content-type": "text/plain",
                "if-none-match": "*",
                "x-amz-checksum-sha256": _SMALL_PARTS[0].base64,
            },
            "offset": 0,
            "length": len(_SMALL),
            "expires_at": "2026-11-23T08:02:00Z",
            "expires_in": 119,
        }
    ],
    "uploaded": [],
}

FILE: Json = {
    "name": "photos/cat.raw",
    "size": _SIZE,
    "file_hash": _HASH,
    "version": _VERSION,
    "modified": _MORNING,
    "content_type": "image/x-raw",
    "url": "https://files.example.com/files/photos/cat.raw",
}

EXISTS: Json = {"status": "exists", "file": FILE}
COPYING: Json = {"status": "copying", "upload_id": _TOKEN, "retry_after": 0.2}

STREAM: Json = {"name": "dumps/db.sql", "part_size": _PLAN.part_size, "content_type": "text/plain"}
STREAM_BEGUN: Json = {
    "status": "upload",
    "upload_id": _TOKEN,
    "expires_at": _NEXT_DAY,
    "expires_in": 86_399,
    "commit": "complete",
    "parts": [],
    "uploaded": [],
    "next_part_number": 1,
}
DECLARE: Json = {
    "upload_id": _TOKEN,
    "parts": [{"part_number": 1, "sha256": str(_SMALL_PARTS[0]), "length": len(_SMALL)}],
}
STREAM_END: Json = {"upload_id": _TOKEN, "size": len(_SMALL), "file_hash": str(FileHash.of(_SMALL_PARTS))}

UPLOAD_ID: Json = {"upload_id": _TOKEN}
SIGN: Json = {"upload_id": _TOKEN, "part_numbers": [3]}
SIGNED: Json = {"upload_id": _TOKEN, "parts": [_signed(3)]}
STATUS: Json = {
    "upload_id": _TOKEN,
    "status": "open",
    "expires_at": _NEXT_DAY,
    "expires_in": 86_399,
    "size": _SIZE,
    "part_size": _PLAN.part_size,
    "uploaded": [{"part_number": 2, "length": _PLAN.part(2).length}],
}
COMPLETE: Json = {"status": "complete", "file": FILE}
SUPERSEDED: Json = {"status": "superseded"}
ABORTED: Json = {"status": "aborted"}

MISSING: Json = {
    "type": "urn:putgate:problem:parts_missing",
    "title": "parts missing",
    "status": 409,
    "code": "parts_missing",
    "detail": "the store lacks 2 of the 3 parts of photos/cat.raw",
    "parts": [1, 3],
}

BATCH: Json = {"items": [{"initiate": INITIATE_SMALL}, {"complete": UPLOAD_ID}]}
BATCH_RESULTS: Json = {"results": [{"status": 200, "body": ONE_PUT}, {"status": 409, "body": MISSING}]}

ACCESS_WISH: Json = {"name": "photos/cat.raw", "expires_in": 60, "filename": "Cat.raw", "inline": False}
ACCESS: Json = {
    "url": "https://s3.example.com/media/photos/cat.raw?response-content-disposition=…&X-Amz-Signature=…",
    "expires_at": "2026-11-23T08:01:00Z",
    "expires_in": 60,
}
LISTING: Json = {
    "files": [{"name": "photos/cat.raw", "size": _SIZE, "version": _VERSION, "modified": _MORNING}],
    "prefixes": ["photos/2026/"],
    "prefixes_b64": [],
    "cursor": None,
}
