"""What holds for every field of the CustomResourceDefinition, and what the API server makes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter

from putgate_protocol.settings import api as settings
from putgate_protocol.settings.quantities import parse_duration, parse_size
from putgate_protocol.settings.rules import TEMPLATES
from tests.operator.crd.conftest import UploadBuckets
from tests.operator.crd.definition import SCHEMA, Field, fields, kind_of
from tests.operator.crd.objects import EVERYTHING, MINIMAL, STATUS, changed
from tests.servers.kube.control_plane import ControlPlane

FIELDS = [field for field in fields() if field.path != "metadata"]
SPEC = [field for field in FIELDS if field.path.startswith("spec.")]

API_DEFAULTS: dict[str, object] = {
    "spec.storage.s3.region": settings.S3.model_fields["region"].default,
    "spec.storage.abortIncompleteAfterDays": settings.Storage.model_fields["abort_incomplete_after_days"].default,
    "spec.upload.maxObjectSize": settings.Upload().max_object_size,
    "spec.upload.urlTTL": settings.Upload().url_ttl,
    "spec.upload.sessionTTL": settings.Upload().session_ttl,
    "spec.download.urlTTL": settings.Download().url_ttl,
    "spec.instantUpload.minSize": settings.InstantUpload().min_size,
    "spec.api.limits.openUploadsPerOwner": settings.Limits().open_uploads_per_owner,
    "spec.api.limits.requestsPerSecond": settings.Limits().requests_per_second,
    "spec.api.limits.requestBurst": settings.Limits().request_burst,
}


def by_path(path: str) -> Field:
    (found,) = [field for field in FIELDS if field.path == path]
    return found


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.path)
def test_every_field_is_described(field: Field) -> None:
    text = field.schema.get("description", "")
    assert re.fullmatch(r"[`{A-Z].*[.]", text, re.DOTALL), text


@pytest.mark.parametrize("field", [field for field in SPEC if not field.required], ids=lambda field: field.path)
def test_every_optional_field_has_a_default(field: Field) -> None:
    said = re.search(r"Default: .+[.]", field.schema["description"])
    parent = "properties" in field.schema  # whose fields have their own
    assert ("default" in field.schema) != (said is not None) or (parent and said is None), field.schema


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.path)
def test_every_field_is_bounded(field: Field) -> None:
    schema = field.schema
    if field.path in {"apiVersion", "kind"} or "enum" in schema or schema.get("type") == "boolean":
        return
    if schema.get("x-kubernetes-int-or-string"):
        wanted = {"maxLength", "pattern", "minimum", "maximum"}
    else:
        wanted = {
            "string": {"maxLength"},
            "integer": {"minimum", "maximum", "format"},
            "array": {"maxItems", "items", "x-kubernetes-list-type"},
            "object": {"maxProperties"} if "additionalProperties" in schema else {"properties"},
        }[schema["type"]]
    assert wanted <= schema.keys()


def test_a_default_is_one_of_the_few() -> None:
    defaults = {field.path for field in SPEC if "default" in field.schema}
    allowed = {field.path for field in SPEC if "enum" in field.schema or "properties" in field.schema}
    assert defaults - allowed == {"spec.upload.partSize", "spec.api.replicas"}


@pytest.mark.parametrize("path", API_DEFAULTS)
def test_a_default_that_the_api_has_is_the_one_described(path: str) -> None:
    field = by_path(path)
    said = re.search(r"Default: (.+)[.]$", field.schema["description"])
    assert said is not None
    readers: dict[str, Callable[[str], object]] = {
        "quantity": parse_size,
        "duration": parse_duration,
        "integer": int,
        "string": str,
    }
    assert readers[kind_of(field.schema)](said[1]) == API_DEFAULTS[path]


def test_all_values_of_an_enum_are_those_of_the_settings() -> None:
    pairs: list[tuple[str, Any]] = [
        ("spec.storage.s3.provider", settings.Provider),
        ("spec.storage.s3.addressingStyle", settings.S3.model_fields["addressing_style"].annotation),
        ("spec.storage.management", settings.Storage.model_fields["management"].annotation),
        ("spec.download.disposition", settings.Download.model_fields["disposition"].annotation),
        ("spec.instantUpload.scope", settings.InstantUpload.model_fields["scope"].annotation),
        ("spec.integrity.mode", settings.Integrity.model_fields["mode"].annotation),
        ("spec.layout", settings.ApiSettings.model_fields["layout"].annotation),
    ]
    for path, annotation in pairs:
        schema = TypeAdapter(annotation).json_schema()
        assert by_path(path).schema["enum"] == schema.get("enum", [schema.get("const")]), path


@pytest.mark.parametrize("text", ["0", "1", "5497558138880", "8Mi", "5k", "3M", "1G", "1T", "1Ki", "1Gi", "5Ti"])
def test_a_size_is_one_for_the_programs_too(text: str) -> None:
    assert re.search(by_path("spec.upload.partSize").schema["pattern"], text)
    assert parse_size(text) >= 0


@pytest.mark.parametrize("text", ["", "Mi", "1.5Gi", "-1", "1m", "1e3", "8 Mi", "8MiB", "1Pi", "8mi", "１Mi"])
def test_what_is_no_size_for_the_programs_is_none(text: str) -> None:
    assert not re.search(by_path("spec.upload.partSize").schema["pattern"], text)


@pytest.mark.parametrize("text", ["15m", "1h30m", "2.5s", "500ms", "1h1m1s1ms", "0s", "100000h"])
def test_a_duration_is_one_for_the_programs_too(text: str) -> None:
    assert re.search(by_path("spec.upload.urlTTL").schema["pattern"], text)
    assert parse_duration(text).total_seconds() >= 0


@pytest.mark.parametrize("text", ["15", "m", "-1m", "1d", "1m1h", "1.5h", "1 m", "1us", ".5s"])
def test_what_is_no_duration_for_the_programs_is_none(text: str) -> None:
    assert not re.search(by_path("spec.upload.urlTTL").schema["pattern"], text)


def test_only_known_templates_are_let_in() -> None:
    (rule,) = [
        rule["rule"]
        for rule in by_path("spec.access[].prefixes[]").schema["x-kubernetes-validations"]
        if "no braces" in rule["message"]
    ]
    assert f"({'|'.join(TEMPLATES)})" in rule


def test_everything_that_can_be_said_is_accepted(uploadbuckets: UploadBuckets) -> None:
    answer = uploadbuckets.create(EVERYTHING, dry_run=True)
    assert answer.code == 201, answer.causes
    assert answer.body["spec"] == EVERYTHING["spec"]


def test_the_example_of_everything_leaves_nothing_out() -> None:
    """Two things go together with no other: type WorkloadIdentity, and a label that must differ."""
    said = set(_paths("spec", EVERYTHING["spec"]))
    missing = {field.path for field in SPEC} - said
    assert {path for path in missing if ".affinity." not in path} == set()


def _paths(path: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        maps = (
            "nodeSelector",
            "resources.requests",
            "resources.limits",
            "status.limits",
            "matchLabels",
            "capabilities",
        )
        joined = "{}" if path.endswith(maps) else None
        return [path] + [
            found for key, child in value.items() for found in _paths(f"{path}{joined or '.' + key}", child)
        ]
    if isinstance(value, list):
        return [path] + [found for child in value for found in _paths(f"{path}[]", child)]
    return [path]


def test_a_minimal_one_gets_the_defaults(uploadbuckets: UploadBuckets) -> None:
    answer = uploadbuckets.create(MINIMAL, dry_run=True)
    assert answer.code == 201, answer.causes
    s3 = {**MINIMAL["spec"]["storage"]["s3"], "provider": "Generic", "addressingStyle": "Auto"}
    assert answer.body["spec"] == {
        "storage": {"type": "S3", "s3": s3, "management": "Adopt"},
        "layout": "Path",
        "upload": {"partSize": "8Mi"},
        "download": {"disposition": "AttachActiveContent"},
        "instantUpload": {"scope": "Owner"},
        "integrity": {"mode": "Enforced"},
        "auth": {"serviceAccounts": {"validation": "JWKS"}},
        "api": {"replicas": 2, "scheduling": {"topologySpread": "Soft"}},
        "deletionPolicy": "Retain",
    }


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"spec.integrity": {"mode": "ReadBack"}}, "spec.integrity.mode: Unsupported value"),
        ({"spec.storage.type": "Azure"}, "spec.storage.type: Unsupported value"),
        ({"spec.layout": "Content"}, "spec.layout: Unsupported value"),
        ({"spec.api.cors": {"allowedOrigins": ["https://A.example"]}}, "spec.api.cors.allowedOrigins[0]"),
        ({"spec.storage.cors": {"allowedOrigins": ["https://a.example/"]}}, "spec.storage.cors.allowedOrigins[0]"),
        ({"spec.api.replicas": 0}, "spec.api.replicas"),
        ({"spec.api.limits": {"openUploadsPerOwner": 10_001}}, "spec.api.limits.openUploadsPerOwner"),
        ({"spec.api.limits": {"requestBurst": 0}}, "spec.api.limits.requestBurst"),
        ({"spec.storage.s3.bucket": "Media"}, "spec.storage.s3.bucket"),
        ({"spec.storage.s3.endpoint": "https://user:secret@store"}, "spec.storage.s3.endpoint"),
        ({"spec.storage.s3.endpoint": "https://store/path"}, "spec.storage.s3.endpoint"),
        ({"spec.storage.takeOver": "media"}, "spec.storage.takeOver"),
        ({"spec.api.resources": {"limits": {"memory": "-1"}}}, "spec.api.resources.limits.memory"),
        ({"spec.upload.allowedContentTypes": ["image/*", "a/b; c"]}, "spec.upload.allowedContentTypes[1]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_schema_refuses(uploadbuckets: UploadBuckets, changes: dict[str, Any], says: str) -> None:
    answer = uploadbuckets.create(changed(MINIMAL, changes), dry_run=True)
    assert answer.code in {400, 422}
    assert says in answer.body["message"]


def test_a_status_is_kept_whole(defined: ControlPlane, uploadbuckets: UploadBuckets) -> None:
    assert uploadbuckets.create(changed(MINIMAL, {"metadata.name": "shown"})).code == 201
    patch = json.dumps([{"op": "add", "path": "/status", "value": STATUS}])
    defined.kubectl("patch", "ub", "shown", "-n", "crd", "--subresource=status", "--type=json", "-p", patch)
    assert defined.get("ub", "shown", "-n", "crd")["status"] == STATUS
    assert set(_paths("status", STATUS)) == {field.path for field in FIELDS if field.path.startswith("status")}


def test_kubectl_shows_columns_and_scales(defined: ControlPlane, uploadbuckets: UploadBuckets) -> None:
    assert uploadbuckets.create(changed(MINIMAL, {"metadata.name": "scaled"})).code == 201
    patch = json.dumps([{"op": "add", "path": "/status", "value": STATUS}])
    defined.kubectl("patch", "ub", "scaled", "-n", "crd", "--subresource=status", "--type=json", "-p", patch)
    header, line = defined.kubectl("get", "putgate", "-n", "crd", "scaled").splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "BUCKET", "TIER", "REPLICAS", "AGE"]
    assert line.split()[:6] == ["scaled", "True", "Available", "media", "sha256", "2"]
    header, line = defined.kubectl("get", "ub", "-n", "crd", "scaled", "-o", "wide").splitlines()
    assert {"URL", "LAYOUT"} <= set(header.split())
    assert "http://media-putgate-api.apps.svc" in line
    defined.kubectl("scale", "ub/scaled", "-n", "crd", "--current-replicas=2", "--replicas=5")
    assert defined.get("ub", "scaled", "-n", "crd")["spec"]["api"]["replicas"] == 5
    path = "/apis/putgate.io/v1alpha1/namespaces/crd/uploadbuckets/scaled/scale"
    scale = json.loads(defined.kubectl("get", "--raw", path))
    assert scale["status"] == {"replicas": 2, "selector": STATUS["api"]["selector"]}


def test_the_schema_names_no_field_of_later() -> None:
    text = json.dumps(SCHEMA)
    for later in ("oidc", "httpRoute", "ingress", "TokenReview", "Azure", "ReadBack"):
        assert later not in text
