"""What every child's manifest has in common: labels, the owner, and a hash that tells whether it must be written."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from putgate_operator.desired import names
from putgate_operator.kinds import GROUP, UPLOAD_BUCKET, Kind
from putgate_operator.observed import Manifest
from putgate_operator.resources import UploadBucket

HASH = f"{GROUP}/desired-hash"
GENERATION = f"{GROUP}/generation"
"""Of the UploadBucket's spec that a Deployment was last written for; bookkeeping, so `HASH` does not cover it: a spec
that changed and changed back leads to the same hash."""

OWNER_UID = f"{GROUP}/uploadbucket-uid"
"""For whom an object was made, also where an ownerReference would let the garbage collector take it too early."""


def child(bucket: UploadBucket, kind: Kind, name: str, *, owned: bool = True, app: str = names.APP) -> Manifest:
    """The head of a manifest. `owned`: the garbage collector takes it when the UploadBucket is gone."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": bucket.namespace,
        "labels": names.labels(bucket, app),
        "annotations": {OWNER_UID: bucket.uid},
    }
    if owned:
        metadata["ownerReferences"] = [owner_reference(bucket)]
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def owner_reference(bucket: UploadBucket) -> Manifest:
    return {
        "apiVersion": UPLOAD_BUCKET.api_version,
        "kind": UPLOAD_BUCKET.kind,
        "name": bucket.name,
        "uid": bucket.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def sealed(manifest: Manifest) -> Manifest:
    """The manifest with its own hash among its annotations."""
    metadata = manifest["metadata"]
    annotations = {key: value for key, value in metadata["annotations"].items() if key not in (HASH, GENERATION)}
    hashed = {**manifest, "metadata": {**metadata, "annotations": annotations}}
    marked = {**metadata["annotations"], HASH: digest(hashed, 16)}
    return {**manifest, "metadata": {**metadata, "annotations": marked}}


def digest(value: object, length: int) -> str:
    """The first hex digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def canonical_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    """Only what is said: an absent field keeps its default, and a later default changes no hash."""
    return {key: value for key, value in fields.items() if value is not None and value not in ({}, [], (), "")}
