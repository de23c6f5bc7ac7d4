"""Who may do what, as a mutable ConfigMap that running pods read again: a revocation never waits for a rollout."""

from __future__ import annotations

import json

from putgate_operator.desired import names
from putgate_operator.desired.manifest import child, sealed
from putgate_operator.kinds import CONFIG_MAP
from putgate_operator.observed import Manifest
from putgate_operator.resources import Access, Subject, UploadBucket
from putgate_protocol.settings import rules as file


def rules_file(bucket: UploadBucket) -> file.RulesFile:
    """Raises `ValidationError` (a `ValueError`) for rules that `putgate-api` would refuse."""
    made = [_rule(bucket, access) for access in bucket.spec.access]
    return file.RulesFile(hash=file.rules_hash(made), rules=made)


def config_map(bucket: UploadBucket, rules: file.RulesFile) -> Manifest:
    text = json.dumps(rules.model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False) + "\n"
    return sealed({**child(bucket, CONFIG_MAP, names.rules(bucket)), "data": {"rules.yaml": text}})


def _rule(bucket: UploadBucket, access: Access) -> file.AccessRule:
    return file.AccessRule(
        name=access.name,
        subjects=[_subject(bucket, subject) for subject in access.subjects],
        verbs=list(access.verbs),
        prefixes=list(access.prefixes),
        max_object_size=access.max_object_size,
    )


def _subject(bucket: UploadBucket, subject: Subject) -> file.Subject:
    """A ServiceAccount without a namespace is one of the UploadBucket's own."""
    namespace = subject.namespace or bucket.namespace if subject.kind == "ServiceAccount" else None
    return file.Subject(kind=subject.kind, name=subject.name, namespace=namespace)
