"""What our own metadata says of an object's content, and what we write there."""

from __future__ import annotations

from dataclasses import dataclass

from putgate_protocol.digests import FileHash
from putgate_storage.errors import Permanent
from putgate_storage.probe.report import Tier
from putgate_storage.store import Head

PREFIX = "putgate-"

SIZE = "putgate-size"

STREAMED = "putgate-streamed"

TIER = "putgate-tier"

_TIERS: tuple[Tier, ...] = ("none", "md5", "sha256")
"""Each checks what those before it check, and more."""


class NotWhole(Permanent):
    """The store has published an upload, and not as it was sent. That is no success, and no upload to be dropped: to
    abort one that was published destroys the object on some stores.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The identity of stored bytes. `nonce` names the one upload that stored them. `streamed`: hash and size were not
    known when the store's upload began, so they are not in the metadata but in a record of their own. `tier`: what the
    store checked when it took the bytes; where it did not check their SHA-256, the hash is their owner's word.
    """

    nonce: str
    file_hash: FileHash
    size: int
    part_size: int
    owner: str
    streamed: bool = False
    tier: Tier = "sha256"

    def metadata(self) -> dict[str, str]:
        late = {"putgate-hash": str(self.file_hash), SIZE: str(self.size)}
        return {
            "putgate-upload": self.nonce,
            **({STREAMED: "yes"} if self.streamed else late),
            "putgate-part-size": str(self.part_size),
            "putgate-owner": self.owner,
            **({} if self.tier == "sha256" else {TIER: self.tier}),
        }

    @classmethod
    def of(cls, head: Head) -> Content | None:
        """What `head` says, or None for an object of another tool, or one that is not as long as it says. A streamed
        file's head says it only with what `streamed_head` adds.
        """
        stored = head.metadata
        try:
            content = cls(
                nonce=stored["putgate-upload"],
                file_hash=FileHash.parse(stored["putgate-hash"]),
                size=int(stored[SIZE]),
                part_size=int(stored["putgate-part-size"]),
                owner=stored["putgate-owner"],
                streamed=STREAMED in stored,
                tier=_tier(stored.get(TIER, "sha256")),
            )
        except (KeyError, ValueError):
            return None
        return content if content.size == head.size else None

    @classmethod
    def published(cls, head: Head | None, nonce: str, size: int | None = None) -> bool:
        """Whether this very upload has been published, whole, under the key that `head` shows. `size`: of a stream,
        whose head does not say it; without it the nonce alone decides there.
        """
        if head is None or head.metadata.get("putgate-upload") != nonce:
            return False
        if STREAMED in head.metadata and SIZE not in head.metadata:
            return size is None or head.size == size
        return cls.of(head) is not None

    def checked_by(self, tier: Tier) -> bool:
        """Whether its bytes were checked as a store of this tier does, or better. A bucket that has come to a better
        store holds what its owners may have lied about; that is sent again.
        """
        return _TIERS.index(self.tier) >= _TIERS.index(tier)

    def same_bytes(self, other: Content) -> bool:
        return (self.file_hash, self.size, self.part_size) == (other.file_hash, other.size, other.part_size)


def not_whole(key: str, head: Head, nonce: str, size: int) -> NotWhole | None:
    """What to raise where the key holds what this upload left, and that is not as it was sent. None for all else."""
    if head.metadata.get("putgate-upload") != nonce or Content.published(head, nonce, size):
        return None
    return NotWhole(
        f"it has published {key!r} not as it was uploaded, with {head.size} bytes of {size}; that is left as it is, "
        "and uploading the file again replaces it",
        code="SizeDiffers",
    )


def _tier(text: str) -> Tier:
    """Raises `ValueError` for one that this version does not know."""
    for tier in _TIERS:
        if tier == text:
            return tier
    raise ValueError("an unknown tier")
