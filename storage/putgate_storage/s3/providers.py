"""What is known about S3's relatives beforehand: how buckets are addressed, which keys a store keeps for itself,
how a request has to be put.

Knowledge that can surely be measured belongs to the probe, never here; and what stands here takes away, never grants.
A `Generic` store may be any of them, so it reserves what any of them reserves: an unneeded refusal costs a name, a
missing one would let a client reach other clients' parts. Naming the provider lifts it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from putgate_protocol.settings.api import Provider
from putgate_storage.s3.address import Style
from putgate_storage.store import StoreLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """Keys that a store keeps for itself."""

    first_segments: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()

    def holds(self, key: str) -> bool:
        segments = key.split("/")
        return segments[0] in self.first_segments or (
            bool(self.suffixes) and any(segment.endswith(self.suffixes) for segment in segments)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """`addressing`: what `Auto` means. `part_sha256_in_complete`: False where Complete refuses them (Swift 2.30
    answers MalformedXML). `quoted_if_match`: False where `If-Match` holds only without the quotes that HTTP wants.
    """

    addressing: Style = "Path"
    reserved: Reserved = field(default_factory=Reserved)
    limits: StoreLimits = field(default_factory=StoreLimits)
    part_sha256_in_complete: bool = True
    quoted_if_match: bool = True


# Through `.uploads` one could read and overwrite other uploads' parts; `….versions` holds versioned objects.
_SEAWEEDFS = Reserved(first_segments=frozenset({".uploads"}), suffixes=(".versions",))

_PROFILES: dict[Provider, Profile] = {
    "AWS": Profile(addressing="Virtual"),
    # 4.48 has two to four winners of eight; twelve probed rounds in a row have had one each, on a machine under load.
    "SeaweedFS": Profile(reserved=_SEAWEEDFS, limits=StoreLimits(completes_race=True)),
    # 16.2 compares the header with the bare ETag, so that a quoted one never matches; seen.
    "Ceph": Profile(quoted_if_match=False),
    "MinIO": Profile(),
    "Swift": Profile(limits=StoreLimits(max_parts=1000), part_sha256_in_complete=False),
    "R2": Profile(),
    "OSS": Profile(addressing="Virtual"),
    "COS": Profile(addressing="Virtual"),
    "GCS": Profile(),
    "B2": Profile(),
    "Generic": Profile(reserved=_SEAWEEDFS),
}


def profile(provider: Provider) -> Profile:
    return _PROFILES[provider]


def style(configured: str, provider: Provider, bucket: str) -> Style:
    """The addressing for a bucket. A dot in its name breaks the wildcard certificate of virtual hosts."""
    if configured in ("Path", "Virtual"):
        return "Path" if configured == "Path" else "Virtual"
    chosen = profile(provider).addressing
    return "Path" if "." in bucket else chosen
