"""Every CEL rule on the real API server: an object that it accepts, and one that it refuses with its message."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.operator.crd.conftest import Answer, UploadBuckets
from tests.operator.crd.definition import rules
from tests.operator.crd.objects import EVERYTHING, GONE, MINIMAL, changed

CREDENTIALS = "spec.storage.s3.credentials"
TOLERATION = "spec.api.scheduling.tolerations.0"
SUBJECT = "spec.access.0.subjects.0"
PREFIX = "spec.access.0.prefixes.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Changes to an object. `before`: what is there already, for rules about changes of it. `later`: shown on a schema
    that knows values of a later version.
    """

    at: str
    says: str
    accepted: tuple[Mapping[str, Any], ...]
    refused: tuple[Mapping[str, Any], ...]
    base: Mapping[str, Any] = field(default_factory=lambda: MINIMAL)
    before: Mapping[str, Any] | None = None
    later: bool = False


def named(name: str) -> dict[str, Any]:
    return {"metadata.name": name}


def valued(path: str, accepted: tuple[Any, ...], refused: tuple[Any, ...]) -> dict[str, Any]:
    return {
        "accepted": tuple({path: value} for value in accepted),
        "refused": tuple({path: value} for value in refused),
    }


CASES = [
    Case(at="", says="at most 40 characters", accepted=(named("a" * 40),), refused=(named("a" * 41),)),
    Case(
        at="",
        says="DNS-1035",
        accepted=(named("a"), named("media-2")),
        refused=(named("2media"), named("me.dia"), named("media-0.a")),
    ),
    Case(
        at="spec",
        says="layout cannot be changed",
        before={},
        later=True,
        accepted=({"spec.layout": "Path"}, {}),
        refused=({"spec.layout": "Content"},),
    ),
    Case(
        at="spec",
        says="deletionPolicy Delete needs",
        accepted=(
            {"spec.deletionPolicy": "Delete", "spec.storage.management": "Create"},
            {"spec.deletionPolicy": "Retain", "spec.storage.management": "Observe"},
        ),
        refused=(
            {"spec.deletionPolicy": "Delete"},
            {"spec.deletionPolicy": "Delete", "spec.storage.management": "Adopt"},
        ),
    ),
    Case(at="spec.storage", says="type S3 needs s3", accepted=({},), refused=({"spec.storage.s3": GONE},)),
    Case(
        at="spec.storage",
        says="bucket cannot be changed",
        before={},
        accepted=({"spec.storage.s3.region": "eu"},),
        refused=({"spec.storage.s3.bucket": "other"}, {"spec.storage.s3": GONE}),
    ),
    Case(
        at="spec.storage",
        says="prefix cannot be changed",
        before={"spec.storage.prefix": "a/"},
        accepted=({"spec.storage.prefix": "a/"},),
        refused=({"spec.storage.prefix": "b/"}, {"spec.storage.prefix": ""}, {}),
    ),
    Case(
        at="spec.storage",
        says="prefix cannot be changed",
        before={},
        accepted=({}, {"spec.storage.prefix": ""}),
        refused=({"spec.storage.prefix": "b/"},),
    ),
    Case(
        at="spec.storage.s3",
        says="endpoint is needed",
        accepted=(
            {"spec.storage.s3.endpoint": GONE, "spec.storage.s3.provider": "AWS"},
            {"spec.storage.s3.provider": "AWS"},
            {"spec.storage.s3.provider": "Ceph"},
        ),
        refused=({"spec.storage.s3.endpoint": GONE},),
    ),
    Case(
        at=CREDENTIALS,
        says="type Secret needs secretRef",
        accepted=({},),
        refused=({f"{CREDENTIALS}.secretRef": GONE},),
    ),
    Case(
        at=CREDENTIALS,
        says="secretRef goes with type Secret",
        accepted=({CREDENTIALS: {"type": "WorkloadIdentity"}},),
        refused=({f"{CREDENTIALS}.type": "WorkloadIdentity"},),
    ),
    Case(
        at="spec.storage.prefix",
        says="must be empty or end in '/'",
        **valued("spec.storage.prefix", ("", "a/", "a/b c/ü/"), ("a", "a/b")),
    ),
    Case(
        at="spec.storage.prefix",
        says="must have no segment",
        **valued(
            "spec.storage.prefix",
            ("..a/", "a/.b/", "x.putgate/", ".putgate.d/"),
            ("/", "/a/", "a//", "a//b/", "./", "a/./", "../", "a/../b/", ".putgate/", "a/.putgate/"),
        ),
    ),
    Case(
        at="spec.storage.prefix",
        says="must hold no control character",
        **valued("spec.storage.prefix", ("a b/",), ("a%41/", "a\\b/", "a\nb/", "a\x00/", "a\x7f/")),
    ),
    Case(
        at="spec.upload",
        says="partSize cannot be changed",
        before={"spec.upload.partSize": "16Mi"},
        accepted=({"spec.upload.partSize": "16Mi"}, {"spec.upload.partSize": 16 * 1024**2}),
        refused=({"spec.upload.partSize": "8Mi"}, {"spec.upload.partSize": 16 * 10**6}, {"spec.upload": {}}, {}),
    ),
    Case(
        at="spec.upload.partSize",
        says="must lie between 5Mi and 1Gi",
        **valued(
            "spec.upload.partSize", ("5Mi", 5 * 1024**2, "1Gi", "1024Mi", "1G"), ("4Mi", 5 * 10**6, "1025Mi", "2G", 0)
        ),
    ),
    Case(
        at="spec.upload.maxObjectSize",
        says="must lie between 1 and 5Ti",
        **valued("spec.upload.maxObjectSize", (1, "1", "5Ti", 5 * 1024**4), (0, "0", "0Gi", "6Ti", "5121Gi")),
    ),
    Case(
        at="spec.upload.urlTTL",
        says="must lie between 10s and 15m",
        **valued("spec.upload.urlTTL", ("10s", "10000ms", "15m", "14m60s"), ("9s", "9999ms", "15m1s", "1h")),
    ),
    Case(
        at="spec.upload.sessionTTL",
        says="must lie between 15m and 168h",
        **valued("spec.upload.sessionTTL", ("15m", "168h", "1h30m"), ("14m59s", "168h1s")),
    ),
    Case(
        at="spec.download.urlTTL",
        says="must lie between 10s and 12h",
        **valued("spec.download.urlTTL", ("10s", "12h"), ("9.5s", "12h1ms")),
    ),
    *(
        case
        for at in ("spec.storage.cors.allowedOrigins", "spec.api.cors.allowedOrigins")
        for case in (
            Case(
                at=at,
                says="* stands alone",
                **valued(at, (["*"], [], ["https://a.example", "http://b:8080"]), (["*", "https://a.example"],)),
            ),
            Case(
                at=at,
                says="default port",
                **valued(
                    at,
                    (["https://a.example:80"], ["http://a.example:443"]),
                    (["http://a.example:80"], ["https://a.example:443"]),
                ),
            ),
        )
    ),
    Case(
        at="spec.instantUpload.minSize",
        says="must lie between 1 and 1Gi",
        **valued("spec.instantUpload.minSize", (1, "1", "256Ki", "1Gi"), (0, "0Ki", "1025Mi", "1T")),
    ),
    Case(
        at="spec.access[].subjects[]",
        says="only a ServiceAccount has a namespace",
        base=EVERYTHING,
        accepted=(
            {SUBJECT: {"kind": "ServiceAccount", "name": "a", "namespace": "b"}},
            {SUBJECT: {"kind": "ServiceAccount", "name": "a"}},
            {SUBJECT: {"kind": "Group", "name": "a"}},
        ),
        refused=(
            {SUBJECT: {"kind": "User", "name": "a", "namespace": "b"}},
            {SUBJECT: {"kind": "Group", "name": "a", "namespace": "b"}},
        ),
    ),
    Case(
        at="spec.access[].subjects[]",
        says="named by its own name alone",
        base=EVERYTHING,
        accepted=({SUBJECT: {"kind": "User", "name": "system:serviceaccount:a:b"}}, {f"{SUBJECT}.name": "a.b-1"}),
        refused=({f"{SUBJECT}.name": "system:serviceaccount:a:b"}, {f"{SUBJECT}.name": "a/b"}),
    ),
    Case(
        at="spec.access[].prefixes[]",
        says="must be empty or end in '/'",
        base=changed(EVERYTHING, {"spec.access.0.prefixes": ["x/"]}),
        **valued(PREFIX, ("", "a/", "{user}/"), ("a", "a/{user}")),
    ),
    Case(
        at="spec.access[].prefixes[]",
        says="must have no segment",
        base=EVERYTHING,
        **valued(PREFIX, (".a/",), ("/", "//", "a/../", "./", ".putgate/")),
    ),
    Case(
        at="spec.access[].prefixes[]",
        says="must hold no control character",
        base=EVERYTHING,
        **valued(PREFIX, ("a-b/",), ("%/", "\\/", "\t/")),
    ),
    Case(
        at="spec.access[].prefixes[]",
        says="must hold no braces but",
        base=EVERYTHING,
        **valued(
            PREFIX,
            ("{namespace}/{serviceAccount}/{user}/{node}/", "a-{node}-b/"),
            ("{pod}/", "{/", "}/", "{}/", "{{user}}/", "{Namespace}/", "{no{node}de}/", "{user/"),
        ),
    ),
    Case(
        at="spec.access[].prefixes[]",
        says="at most one template in a segment",
        base=EVERYTHING,
        **valued(PREFIX, ("{namespace}/{user}/",), ("{namespace}-{user}/", "a/{node}{node}/b/")),
    ),
    Case(
        at="spec.access[].maxObjectSize",
        says="must lie between 1 and 5Ti",
        base=EVERYTHING,
        **valued("spec.access.0.maxObjectSize", (1, "1Gi"), (0, "6Ti")),
    ),
    Case(
        at="spec.api.scheduling.tolerations[]",
        says="without a key the operator is Exists",
        base=EVERYTHING,
        accepted=({TOLERATION: {"operator": "Exists"}}, {TOLERATION: {"key": "a"}}),
        refused=({TOLERATION: {"value": "a"}}, {TOLERATION: {"operator": "Equal"}}),
    ),
    Case(
        at="spec.api.scheduling.tolerations[]",
        says="operator Exists has no value",
        base=EVERYTHING,
        accepted=({TOLERATION: {"key": "a", "operator": "Exists", "value": ""}},),
        refused=({TOLERATION: {"key": "a", "operator": "Exists", "value": "b"}},),
    ),
    Case(
        at="spec.api.scheduling.tolerations[]",
        says="tolerationSeconds goes with effect NoExecute",
        base=EVERYTHING,
        accepted=({TOLERATION: {"key": "a", "effect": "NoExecute", "tolerationSeconds": 0}},),
        refused=(
            {TOLERATION: {"key": "a", "tolerationSeconds": 1}},
            {TOLERATION: {"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1}},
        ),
    ),
]


def test_every_rule_has_a_case_and_every_case_a_rule() -> None:
    unmatched = [
        f"{at or 'the object'}: {rule['message']}"
        for at, rule in rules()
        if not any(case.at == at and case.says in rule["message"] for case in CASES)
    ]
    stale = [
        f"{case.at}: {case.says}"
        for case in CASES
        if sum(case.at == at and case.says in rule["message"] for at, rule in rules()) != 1
    ]
    assert (unmatched, stale) == ([], [])


@contextmanager
def existing(uploadbuckets: UploadBuckets, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    made = uploadbuckets.create(body)
    assert made.code == 201, made.causes
    try:
        yield {"metadata.resourceVersion": made.body["metadata"]["resourceVersion"]}
    finally:
        assert uploadbuckets.delete(body["metadata"]["name"]).code == 200


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.at or 'object'}: {case.says}")
def test_a_rule_accepts_and_refuses(
    uploadbuckets: UploadBuckets, later_uploadbuckets: UploadBuckets, case: Case
) -> None:
    server = later_uploadbuckets if case.later else uploadbuckets
    kind = {"kind": server.kind}
    if case.before is None:
        _tried(case, lambda changes: server.create(changed(case.base, {**kind, **changes}), dry_run=True))
        return
    with existing(server, changed(case.base, {**kind, **case.before})) as version:
        _tried(
            case,
            lambda changes: server.replace("media", changed(case.base, {**kind, **version, **changes}), dry_run=True),
        )


def _tried(case: Case, send: Callable[[Mapping[str, Any]], Answer]) -> None:
    for changes in case.accepted:
        answer = send(changes)
        assert answer.code in {200, 201}, (changes, answer.causes)
    for changes in case.refused:
        answer = send(changes)
        assert answer.code == 422, changes
        assert any(case.says in cause for cause in answer.causes), (changes, answer.causes)
