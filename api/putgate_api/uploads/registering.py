"""Published content is registered in the index, so that it is found again. Decides nothing about the publication.

Only a hint is written here: where that fails, the content is sent once more some day, and nothing else happens.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from putgate_api.records.index import Indexed
from putgate_api.uploads.bucket import Bucket
from putgate_api.uploads.content import Content
from putgate_protocol.digests import PartHash
from putgate_protocol.names import Name
from putgate_storage.errors import StoreError

log = structlog.get_logger("putgate.api")


async def register(
    bucket: Bucket, name: Name, content: Content, etags: Sequence[str], parts: Sequence[PartHash] = ()
) -> None:
    """Register what is stored under `name`, if it is large enough and its parts can be told by their ETags."""
    if content.size < bucket.instant_min_size:
        return
    try:
        indexed = Indexed(
            file_hash=content.file_hash,
            name=name,
            size=content.size,
            part_size=content.part_size,
            parts=tuple(parts),
            etags=tuple(etags),
            owner=content.owner,
            nonce=content.nonce,
        )
    except ValueError as error:
        log.debug("content is not registered", name=str(name), reason=str(error))
        return
    for scope in scopes(bucket, content.owner):
        try:
            await bucket.index.write(scope, indexed)
        except StoreError as error:
            log.warning("content could not be registered", name=str(name), reason=str(error), code=error.code)


def scopes(bucket: Bucket, owner: str) -> Sequence[str]:
    """Where content of `owner` is registered, and looked for: first where no other writes. In the scope that all share
    the last one wins, who may be somebody whose files this owner may not know of.
    """
    return tuple(dict.fromkeys((owner, bucket.index_scope(owner))))
