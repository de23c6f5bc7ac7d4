"""What the holder of a signed request could try. Each function makes one try and gives the store's status."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from urllib.parse import parse_qs, urlsplit

from tests.attacks.stage import SIZE, Stage, Upload

Attack = Callable[[Stage, Upload], Awaitable[int]]

_DIGESTS = ("x-amz-checksum-sha256", "content-md5")


async def _other_bytes(stage: Stage, upload: Upload) -> int:
    return await stage.send(upload, stage.victim_data)


async def _other_length(difference: int, stage: Stage, upload: Upload) -> int:
    body = (upload.data + b"x")[: SIZE + difference]
    return await stage.send(
        upload, body, headers=_headers(upload, "content-length") | {"Content-Length": str(len(body))}
    )


async def _unsigned_digests(stage: Stage, upload: Upload) -> int:
    return await stage.send(upload, stage.victim_data, headers=_headers(upload, *_DIGESTS))


async def _digests_of_others(stage: Stage, upload: Upload) -> int:
    """The digests of other bytes, in headers that were signed with those of the declared ones."""
    other = await stage.declare()
    found = {key: value for key, value in other.part["headers"].items() if key.lower() in _DIGESTS}
    return await stage.send(upload, other.data, headers=_headers(upload, *_DIGESTS) | found)


async def _header(extra: Mapping[str, str], stage: Stage, upload: Upload) -> int:
    source = f"/{stage.api.store.bucket}/{stage.api.prefix}{stage.victim}"
    return await stage.send(upload, extra={key: value.replace("VICTIM", source) for key, value in extra.items()})


async def _part_number(stage: Stage, upload: Upload) -> int:
    return await stage.send(upload, url=upload.part["url"].replace("partNumber=1", "partNumber=2"))


async def _upload_id(stage: Stage, upload: Upload) -> int:
    other = await stage.declare()
    ours, theirs = (parse_qs(urlsplit(each.part["url"]).query)["uploadId"][0] for each in (upload, other))
    return await stage.send(upload, url=upload.part["url"].replace(ours, theirs))


async def _key(stage: Stage, upload: Upload) -> int:
    """As if it had been signed for what somebody else has stored."""
    return await stage.send(upload, url=upload.part["url"].replace(upload.name, stage.victim))


async def _url_of_another(stage: Stage, upload: Upload) -> int:
    other = await stage.declare()
    return await stage.send(upload, url=other.part["url"])


async def _method(method: str, stage: Stage, upload: Upload) -> int:
    return await stage.send(upload, method=method)


async def _replay(stage: Stage, upload: Upload) -> int:
    assert await stage.send(upload) == 200
    return await stage.send(upload)


async def _replay_other_bytes(stage: Stage, upload: Upload) -> int:
    assert await stage.send(upload) == 200
    return await stage.send(upload, os.urandom(SIZE))


async def _replay_after_end(stage: Stage, upload: Upload) -> int:
    assert await stage.send(upload) == 200
    assert (await stage.complete(upload))[0] == 200
    return await stage.send(upload)


async def _copy_after_end(stage: Stage, upload: Upload) -> int:
    assert await stage.send(upload) == 200
    assert (await stage.complete(upload))[0] == 200
    return await _header(_COPY, stage, upload)


async def _replay_after_abort(stage: Stage, upload: Upload) -> int:
    assert await stage.send(upload) == 200
    await stage.abort(upload)
    return await stage.send(upload)


def _headers(upload: Upload, *without: str) -> dict[str, str]:
    return {key: value for key, value in upload.part["headers"].items() if key.lower() not in without}


_COPY = {"x-amz-copy-source": "VICTIM"}
_GRANT = {"x-amz-grant-read": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'}

_ON_BOTH: Mapping[str, Attack] = {
    "other bytes": _other_bytes,
    "a byte less": partial(_other_length, -1),
    "a byte more": partial(_other_length, 1),
    "other bytes, the digest headers left out": _unsigned_digests,
    "other bytes and their digests": _digests_of_others,
    "unsigned `x-amz-copy-source`": partial(_header, _COPY),
    "unsigned `x-amz-copy-source` with a range": partial(
        _header, _COPY | {"x-amz-copy-source-range": f"bytes=0-{SIZE - 1}"}
    ),
    "unsigned `x-amz-copy-source` after the end": _copy_after_end,
    "unsigned `x-amz-acl`": partial(_header, {"x-amz-acl": "public-read"}),
    "unsigned `x-amz-grant-read`": partial(_header, _GRANT),
    "unsigned `x-amz-tagging`": partial(_header, {"x-amz-tagging": "a=b"}),
    "unsigned `x-amz-meta-extra`": partial(_header, {"x-amz-meta-extra": "x"}),
    "unsigned `x-amz-meta-putgate-owner`": partial(_header, {"x-amz-meta-putgate-owner": "f" * 64}),
    "another key": _key,
    "the URL of another upload": _url_of_another,
    "`GET` instead": partial(_method, "GET"),
    "`DELETE` instead": partial(_method, "DELETE"),
    "`POST` instead": partial(_method, "POST"),
    "sent twice": _replay,
    "sent again with other bytes": _replay_other_bytes,
    "sent again after the end": _replay_after_end,
}

ATTACKS: Mapping[str, Mapping[str, Attack]] = {
    "UploadPart": {
        **_ON_BOTH,
        "another part number": _part_number,
        "another upload's id": _upload_id,
        "sent again after an abort": _replay_after_abort,
    },
    "PutObject": _ON_BOTH,
}
