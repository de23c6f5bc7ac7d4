"""What our own metadata says of an object's content, and what we write there."""

from __future__ import annotations

from dataclasses import dataclass

from putgate_protocol.digests import FileHash
from putgate_storage.store import Head

PREFIX = "putgate-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The identity of stored bytes. `nonce` names the one upload that stored them."""

    nonce: str
    file_hash: FileHash
    size: int
    part_size: int
    owner: str

    def metadata(self) -> dict[str, str]:
        return {
            "putgate-upload": self.nonce,
            "putgate-hash": str(self.file_hash),
            "putgate-size": str(self.size),
            "putgate-part-size": str(self.part_size),
            "putgate-owner": self.owner,
        }

    @classmethod
    def of(cls, head: Head) -> Content | None:
        """What `head` says, or None for an object of another tool, or one that is not as long as it says."""
        stored = head.metadata
        try:
            content = cls(
                nonce=stored["putgate-upload"],
                file_hash=FileHash.parse(stored["putgate-hash"]),
                size=int(stored["putgate-size"]),
                part_size=int(stored["putgate-part-size"]),
                owner=stored["putgate-owner"],
            )
        except (KeyError, ValueError):
            return None
        return content if content.size == head.size else None

    @classmethod
    def published(cls, head: Head | None, nonce: str) -> bool:
        """Whether this very upload has been published under the key that `head` shows."""
        content = None if head is None else cls.of(head)
        return content is not None and content.nonce == nonce

    def same_bytes(self, other: Content) -> bool:
        return (self.file_hash, self.size, self.part_size) == (other.file_hash, other.size, other.part_size)
