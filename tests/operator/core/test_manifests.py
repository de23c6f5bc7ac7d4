from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from putgate_operator.desired.settings import Keys, settings_file
from putgate_operator.observed import dig
from putgate_operator.resources import UploadBucket
from putgate_protocol.settings.api import ENV_PREFIX, ApiSettings
from putgate_protocol.settings.load import load
from putgate_protocol.settings.rules import RulesFile
from tests.operator.core import golden
from tests.operator.core.cluster import PLACE, Cluster
from tests.operator.core.made import FULL, MINIMAL, OPERATOR, upload_bucket
from tests.operator.core.specs import SPECS

KEYS = Keys(signing="0123456789", accepted=("0123456789",))


def settings_hash(spec: dict[str, Any]) -> str:
    return settings_file(UploadBucket.parse(upload_bucket(spec)), PLACE, KEYS, OPERATOR).hash


def changed(spec: dict[str, Any], value: Any, *path: str) -> dict[str, Any]:
    spec = copy.deepcopy(spec)
    at = spec
    for step in path[:-1]:
        at = at.setdefault(step, {})
    at[path[-1]] = value
    return spec


@pytest.mark.parametrize("name", sorted(golden.made()))
def test_manifests_are_the_golden_ones(name: str) -> None:
    assert golden.made()[name] == (golden.FOLDER / name).read_text()


def test_settings_hashes_are_for_good() -> None:
    """Another hash rolls every pod of every installation at the next upgrade: change it only on purpose."""
    assert (settings_hash(MINIMAL), settings_hash(FULL)) == ("c7a08a6610", "108ce61f7f")
    # As they were before there was anything to say of these.
    older = {key: value for key, value in FULL.items() if key not in ("instantUpload", "integrity")}
    for member in ("storage", "api"):
        older[member] = {key: value for key, value in older[member].items() if key not in ("cors", "limits")}
    assert settings_hash(older) == "fe1f78bbc4"


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        (("upload", "sessionTTL"), "60m", "1h"),
        (("upload", "urlTTL"), "900s", "15m"),
        (("upload", "partSize"), "16Mi", 16 * 1024**2),
        (("upload", "maxObjectSize"), "1Gi", "1024Mi"),
    ],
)
def test_the_same_said_otherwise_rolls_nothing(path: tuple[str, ...], one: Any, other: Any) -> None:
    assert settings_hash(changed(MINIMAL, one, *path)) == settings_hash(changed(MINIMAL, other, *path))


def test_what_needs_no_other_settings_rolls_nothing() -> None:
    assert settings_hash(changed(MINIMAL, 5, "api", "replicas")) == settings_hash(MINIMAL)
    assert settings_hash(changed(FULL, [], "access")) == settings_hash(FULL)


@given(spec=SPECS)
def test_every_spec_makes_files_that_the_api_reads(spec: dict[str, Any]) -> None:
    cluster = Cluster(upload_bucket(spec))
    cluster.reconcile()
    maps = {key.name: raw["data"] for key, raw in cluster.children.items() if key.kind == "ConfigMap"}
    (settings,) = (data["settings.yaml"] for data in maps.values() if "settings.yaml" in data)
    read = load(ApiSettings, settings, origin="settings.yaml", environment={}, env_prefix=ENV_PREFIX)
    assert read.identity is not None
    assert f"media-putgate-settings-{read.identity.settings_hash}" in maps
    rules = load(
        RulesFile, maps["media-putgate-rules"]["rules.yaml"], origin="rules.yaml", environment={}, env_prefix="_"
    )
    assert [rule.name for rule in rules.rules] == [rule["name"] for rule in spec.get("access", [])]


@given(spec=SPECS)
def test_every_file_that_the_settings_name_is_mounted(spec: dict[str, Any]) -> None:
    cluster = Cluster(upload_bucket(spec))
    cluster.reconcile()
    pod = cluster.deployment["spec"]["template"]["spec"]
    (settings,) = (
        raw["data"]["settings.yaml"] for raw in cluster.children.values() if "-settings-" in raw["metadata"]["name"]
    )
    mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    files = {text for text in _texts(json.loads(settings)) if text.startswith(("/etc/", "/var/"))}
    assert files
    assert {path for path in files if path not in mounts and path.rpartition("/")[0] not in mounts} == set()


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []


@given(spec=SPECS)
def test_pods_hold_nothing_secret_in_their_environment_and_start_without_any_secret(spec: dict[str, Any]) -> None:
    cluster = Cluster(upload_bucket(spec))
    cluster.reconcile()
    pod = cluster.deployment["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert all("fieldRef" in variable["valueFrom"] for variable in container["env"])
        assert not any("subPath" in mount for mount in container["volumeMounts"])
    for volume in pod["volumes"]:
        for source in [volume, *dig(volume, "projected", "sources", default=[])]:
            assert "secret" not in source or source["secret"]["optional"] is True
            assert "secret" not in source or source["secret"]["items"]


def test_the_metadata_service_is_open_to_workload_identity_alone() -> None:
    def egress(spec: dict[str, Any]) -> list[Any]:
        cluster = Cluster(upload_bucket(spec))
        cluster.reconcile()
        found: list[Any] = cluster.child("NetworkPolicy", "media-putgate-api")["spec"]["egress"]
        return found

    workload_identity = changed(MINIMAL, {"type": "WorkloadIdentity"}, "storage", "s3", "credentials")
    assert egress(workload_identity) == [{}]
    closed = [peer["ipBlock"]["except"] for peer in egress(MINIMAL)[0]["to"] if "ipBlock" in peer]
    assert closed == [
        ["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32"],
        ["fd00:ec2::/32", "fd20:ce::254/128"],
    ]


def test_without_jwks_the_api_gets_no_token_for_the_api_server() -> None:
    cluster = Cluster(upload_bucket(changed(MINIMAL, "None", "auth", "serviceAccounts", "validation")))
    cluster.reconcile()
    volumes = [each["name"] for each in cluster.deployment["spec"]["template"]["spec"]["volumes"]]
    assert volumes == ["settings", "upload-keys", "credentials", "tmp"]


@given(spec=SPECS, other=SPECS)
def test_a_template_hash_stands_for_one_template(spec: dict[str, Any], other: dict[str, Any]) -> None:
    templates = []
    for each in (spec, other):
        cluster = Cluster(upload_bucket(each))
        cluster.reconcile()
        templates.append(cluster.deployment["spec"]["template"])
    hashes = [template["metadata"]["annotations"]["putgate.io/template-hash"] for template in templates]
    assert (hashes[0] == hashes[1]) == (templates[0] == templates[1])


@given(spec=SPECS, name=st.just("media"))
def test_children_name_their_owner_and_their_label(spec: dict[str, Any], name: str) -> None:
    cluster = Cluster(upload_bucket(spec))
    desired = cluster.reconcile()
    for manifest in (*desired.apply, *(secret.manifest for secret in desired.create_secrets)):
        metadata = manifest["metadata"]
        (owner,) = metadata["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (cluster.raw["metadata"]["uid"], True)
        assert metadata["labels"]["putgate.io/uploadbucket"] == name
