"""`resources.UploadBucket` against the CustomResourceDefinition: neither has a field that the other lacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from putgate_operator.resources import InvalidUploadBucket, Spec, UploadBucket, alias
from putgate_protocol.settings.quantities import parse_size
from tests.operator.crd.definition import fields
from tests.operator.crd.objects import EVERYTHING, GONE, MINIMAL, changed

OPAQUE = {
    "spec.api.resources",
    "spec.api.scheduling.nodeSelector",
    "spec.api.scheduling.tolerations[]",
    "spec.api.scheduling.affinity",
}
"""Passed on to the pods as they are, so their fields are the API server's."""


def placed(body: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"namespace": "apps", "uid": "5f1b", "generation": 3, "resourceVersion": "7"}
    return changed(body, {f"metadata.{key}": value for key, value in metadata.items()})


def modelled(path: str, kind: Any) -> Iterator[tuple[str, Any]]:
    """Every field of the typed value, as the API server spells its path, with its type."""
    kind = _without_none(kind)
    if path:
        yield path, kind
    if get_origin(kind) is tuple:
        yield from modelled(f"{path}[]", get_args(kind)[0])
    elif dataclasses.is_dataclass(kind):
        for name, child in get_type_hints(kind, include_extras=False).items():
            if name in {each.name for each in dataclasses.fields(kind)}:
                yield from modelled(f"{path}.{alias(name)}", child)


def _without_none(kind: Any) -> Any:
    rest = [each for each in get_args(kind) if each is not NoneType]
    return rest[0] if NoneType in get_args(kind) and len(rest) == 1 else kind


MODEL = dict(modelled("spec", Spec))
SCHEMA = {field.path: field for field in fields() if field.path.startswith("spec")}


def test_both_have_the_same_fields() -> None:
    known = {path for path in SCHEMA if not any(path.startswith((f"{at}.", f"{at}{{", f"{at}[")) for at in OPAQUE)}
    assert set(MODEL) == known


def test_both_know_the_same_values() -> None:
    literals = {path: set(get_args(kind)) for path, kind in MODEL.items() if get_origin(kind) is Literal}
    assert literals == {path: set(field.schema["enum"]) for path, field in SCHEMA.items() if path in literals}
    unchecked = {path for path in MODEL if "enum" in SCHEMA[path].schema} - set(literals)
    assert unchecked == set()


def test_the_same_fields_may_be_left_out() -> None:
    """But for the members of unions, which CEL demands where they are due."""
    required = {path for path, field in SCHEMA.items() if field.required and not path.endswith("[]")} & set(MODEL)
    assert set(_demanded("spec", Spec)) - {"spec.storage.s3"} == required - {"spec"}


def _demanded(path: str, kind: Any) -> Iterator[str]:
    for field in dataclasses.fields(kind):
        child = _without_none(get_type_hints(kind)[field.name])
        here = f"{path}.{alias(field.name)}"
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            yield here
        if get_origin(child) is tuple:
            here, child = f"{here}[]", get_args(child)[0]
        if dataclasses.is_dataclass(child):
            yield from _demanded(here, child)


def test_defaults_are_those_of_the_schema() -> None:
    found = dict(_values("spec", UploadBucket.parse(placed(MINIMAL)).spec))
    for path, field in SCHEMA.items():
        if "default" not in field.schema or "properties" in field.schema or path not in found:
            continue
        wanted = field.schema["default"]
        assert found[path] == (parse_size(wanted) if path == "spec.upload.partSize" else wanted), path


def test_defaults_of_the_operator_are_those_described() -> None:
    found = dict(_values("spec", UploadBucket.parse(placed(EVERYTHING_BY_DEFAULT)).spec))
    for path in (
        "spec.storage.s3.credentials.secretRef.accessKeyIDKey",
        "spec.storage.s3.credentials.secretRef.secretAccessKeyKey",
        "spec.storage.s3.caBundleRef.key",
    ):
        assert f"Default: {found[path]}." in SCHEMA[path].schema["description"]


EVERYTHING_BY_DEFAULT = changed(MINIMAL, {"spec.storage.s3.caBundleRef": {"name": "ca"}})


def _values(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _values(f"{path}.{alias(field.name)}", getattr(value, field.name))
    else:
        yield path, value


def test_everything_is_read() -> None:
    bucket = UploadBucket.parse(placed(EVERYTHING))
    said = dict(_values("spec", bucket.spec))
    assert None not in said.values()
    assert bucket.spec.upload.part_size == 16 * 1024**2
    assert bucket.spec.upload.session_ttl == timedelta(hours=36)
    assert bucket.spec.download.url_ttl == timedelta(seconds=90)
    assert bucket.spec.instant_upload.min_size == 1024**2
    assert [subject.namespace for subject in bucket.spec.access[0].subjects] == ["apps", None, None, None]
    assert bucket.spec.access[0].max_object_size == 1024**3
    assert bucket.spec.api.resources == EVERYTHING["spec"]["api"]["resources"]
    assert bucket.spec.api.scheduling.affinity == EVERYTHING["spec"]["api"]["scheduling"]["affinity"]
    assert list(bucket.spec.api.scheduling.tolerations) == EVERYTHING["spec"]["api"]["scheduling"]["tolerations"]


def test_metadata_and_status_are_read() -> None:
    raw = changed(
        placed(MINIMAL),
        {
            "metadata.annotations": {"putgate.io/paused": "true"},
            "metadata.finalizers": ["putgate.io/bucket"],
            "metadata.deletionTimestamp": "2026-11-01T00:00:00Z",
            "status": {"observedGeneration": 2},
        },
    )
    bucket = UploadBucket.parse(raw)
    assert (bucket.namespace, bucket.name, bucket.uid, bucket.generation) == ("apps", "media", "5f1b", 3)
    assert (bucket.resource_version, bucket.finalizers) == ("7", ("putgate.io/bucket",))
    assert bucket.annotations == {"putgate.io/paused": "true"}
    assert bucket.deletion_timestamp == datetime(2026, 11, 1, tzinfo=UTC)
    assert bucket.deleting
    assert bucket.status == {"observedGeneration": 2}


def test_what_is_read_changes_no_more() -> None:
    raw = placed(EVERYTHING)
    bucket = UploadBucket.parse(raw)
    assert bucket == UploadBucket.parse(placed(EVERYTHING))
    with pytest.raises(dataclasses.FrozenInstanceError):
        bucket.spec.api.replicas = 5  # type: ignore[misc]


def test_an_upload_lives_as_long_as_its_session_and_its_last_url() -> None:
    assert UploadBucket.parse(placed(MINIMAL)).spec.upload.lifetime == timedelta(hours=24, minutes=15)
    assert UploadBucket.parse(placed(EVERYTHING)).spec.upload.lifetime == timedelta(hours=36, minutes=10)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"spec.auth.oidc": []}, "spec.auth.oidc: a field that this operator does not know"),
        ({"spec.upload.url_ttl": "5m"}, "spec.upload.url_ttl: a field that this operator does not know"),
        ({"spec.storage.s3.bucket": GONE}, "spec.storage.s3.bucket: Field required"),
        ({"spec.upload.urlTTL": "soon"}, "spec.upload.urlTTL: a duration is written as"),
        ({"spec.upload.partSize": "8 MiB"}, "spec.upload.partSize: a size is"),
        ({"spec.layout": "Content"}, "spec.layout: Input should be 'Path'"),
        ({"metadata.uid": GONE}, "metadata.uid is missing"),
        ({"spec": GONE}, "spec: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named_with_its_place(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidUploadBucket) as caught:
        UploadBucket.parse(changed(placed(MINIMAL), changes))
    assert str(caught.value).startswith("UploadBucket apps/media: ")
    assert says in str(caught.value)


def test_an_error_does_not_show_the_value() -> None:
    with pytest.raises(InvalidUploadBucket) as caught:
        UploadBucket.parse(changed(placed(MINIMAL), {"spec.upload.urlTTL": "secret", "spec.storage.secret": "secret2"}))
    assert "secret2" not in str(caught.value)
    assert "'secret'" not in str(caught.value)
