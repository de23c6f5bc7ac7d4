"""The Secret of one upload key, without the key: random bytes are made where it is created, and never read back."""

from __future__ import annotations

from putgate_operator.desired import names
from putgate_operator.desired.manifest import child
from putgate_operator.desired.outcome import KeySecret
from putgate_operator.kinds import SECRET
from putgate_operator.resources import UploadBucket


def key_secret(bucket: UploadBucket, key_id: str) -> KeySecret:
    manifest = child(bucket, SECRET, names.key_secret(bucket, key_id))
    return KeySecret(key_id=key_id, manifest={**manifest, "type": "Opaque", "immutable": True})
