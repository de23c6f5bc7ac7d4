"""Index records: hints by which content that is stored already is found again, by its file hash.

A hint and never the commit: losing one costs bytes that are sent once more. Nothing in it is a right either; who may
use it is decided by whoever reads it. The key of the file is derived from its name, never read from here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from putgate_api.records.keys import RecordKeys
from putgate_protocol.digests import FileHash, PartHash
from putgate_protocol.names import Name
from putgate_protocol.parts import PartPlan
from putgate_protocol.problems import NameProblem
from putgate_storage.errors import Refused
from putgate_storage.store import ObjectHeaders, Store

BUCKET = "bucket"
"""The scope that everybody shares; each owner has one as well. Owners' ids are hashes, so none is called like this."""

_MAX_BYTES = 2 * 1024 * 1024
"""Ten thousand parts, each with its hash and ETag, take about half of it."""

_VERSION = 1
_MD5 = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """Content of `file_hash`, stored under `name` by the upload `nonce` of `owner`. `etags`: of each part, its MD5.
    `parts`: each part's hash, empty for a file of one part that a PUT has committed, whose hash only its callers know.
    """

    file_hash: FileHash
    name: Name
    size: int
    part_size: int
    parts: tuple[PartHash, ...]
    etags: tuple[str, ...]
    owner: str
    nonce: str

    def __post_init__(self) -> None:
        """Raises `ValueError` for what cannot be a source: parts that do not make the file, ETags that tell nothing."""
        if self.size < 1 or PartPlan(size=self.size, part_size=self.part_size).count != len(self.etags):
            raise ValueError("a file has as many ETags as parts")
        if not all(map(_MD5.fullmatch, self.etags)):
            raise ValueError("an ETag that is no MD5 tells nothing of the bytes")
        told = bool(self.parts) or len(self.etags) > 1
        if told and (len(self.parts) != len(self.etags) or FileHash.of(self.parts) != self.file_hash):
            raise ValueError("the parts do not make the file")

    def to_json(self) -> bytes:
        tree = {
            "v": _VERSION,
            **self.name.to_wire(),
            "size": self.size,
            "part_size": self.part_size,
            "parts": [str(part) for part in self.parts],
            "etags": list(self.etags),
            "owner": self.owner,
            "nonce": self.nonce,
        }
        return json.dumps(tree, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, body: bytes, file_hash: FileHash) -> Indexed | None:
        """None for what nobody of this version wrote, or what does not fit its place."""
        try:
            tree = json.loads(body)
            if tree["v"] != _VERSION:
                return None
            return cls(
                file_hash=file_hash,
                name=Name.from_wire(tree.get("name"), tree.get("name_b64")),
                size=int(tree["size"]),
                part_size=int(tree["part_size"]),
                parts=tuple(map(PartHash.parse, tree["parts"])),
                etags=tuple(map(str, tree["etags"])),
                owner=str(tree["owner"]),
                nonce=str(tree["nonce"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, NameProblem):
            return None


class IndexRecords:
    def __init__(self, store: Store, keys: RecordKeys) -> None:
        self._store = store
        self._keys = keys

    async def read(self, scope: str, file_hash: FileHash) -> Indexed | None:
        """Raises `StoreError` where the store does not say whether there is one."""
        try:
            found = await self._store.get_small(self._keys.index(scope, str(file_hash)), _MAX_BYTES)
        except Refused:
            return None
        return None if found is None else Indexed.from_json(found.body, file_hash)

    async def is_newer(self, scope: str, file_hash: FileHash) -> bool:
        """Whether a record is there that a newer version of Putgate has written. Raises `StoreError`."""
        try:
            found = await self._store.get_small(self._keys.index(scope, str(file_hash)), _MAX_BYTES)
            return found is not None and int(json.loads(found.body)["v"]) > _VERSION
        except (Refused, ValueError, KeyError, TypeError):
            return False

    async def write(self, scope: str, indexed: Indexed) -> None:
        """The last one wins: each is as good as the other, and the newest is likely to stay longest."""
        await self._store.put_small(
            self._keys.index(scope, str(indexed.file_hash)),
            indexed.to_json(),
            headers=ObjectHeaders(content_type="application/json"),
        )
