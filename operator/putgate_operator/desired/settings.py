"""The file that `putgate-api` reads, and the immutable ConfigMap that carries it, named by the file's hash.

A changed setting is another ConfigMap, hence another pod template: pods of one template read the same file for ever.
What the owner leaves unset is left out, so that a later default neither changes the hash nor rolls a pod.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from putgate_operator.desired import names
from putgate_operator.desired.manifest import child, digest, sealed, without_empty
from putgate_operator.kinds import CONFIG_MAP
from putgate_operator.observed import Manifest, OperatorSettings, Place
from putgate_operator.resources import S3, Cors, Limits, UploadBucket
from putgate_protocol.settings.api import ApiSettings

LAME_DUCK = timedelta(seconds=5)
"""How long a pod that must end still takes calls: until every node has learnt of it. Shorter refuses calls, longer only
slows rollouts."""

DRAIN = timedelta(seconds=20)
"""How long calls under way may take after that; the longest is a complete of ten thousand parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Which upload keys a pod signs with and accepts, by id."""

    signing: str
    accepted: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFile:
    """`hash`: of the document without `identity`, which repeats it."""

    hash: str
    document: dict[str, Any]


def settings_file(bucket: UploadBucket, place: Place, keys: Keys, operator: OperatorSettings) -> SettingsFile:
    """Raises `ValidationError` (a `ValueError`) where the spec makes a file that `putgate-api` would refuse."""
    document = {
        "storage": _storage(bucket, place),
        "layout": bucket.spec.layout,
        **without_empty(
            {
                "upload": _upload(bucket),
                "download": _download(bucket),
                "instant_upload": _instant_upload(bucket),
                "integrity": _integrity(bucket),
                "auth": _auth(bucket, operator),
            }
        ),
        "upload_keys": {"folder": names.UPLOAD_KEYS, "signing": keys.signing, "accepted": list(keys.accepted)},
        **without_empty({"cors": _cors(bucket.spec.api.cors), "limits": _limits(bucket.spec.api.limits)}),
        "listen": _listen(bucket),
    }
    made = digest(document, 10)
    document["identity"] = {"uploadbucket_uid": bucket.uid, "settings_hash": made}
    ApiSettings.model_validate(document)
    return SettingsFile(hash=made, document=document)


def config_map(bucket: UploadBucket, file: SettingsFile) -> Manifest:
    manifest = child(bucket, CONFIG_MAP, names.settings(bucket, file.hash))
    return sealed({**manifest, "immutable": True, "data": {"settings.yaml": text(file)}})


def text(file: SettingsFile) -> str:
    """JSON is YAML, and people read it with kubectl."""
    return json.dumps(file.document, indent=2, ensure_ascii=False) + "\n"


def _storage(bucket: UploadBucket, place: Place) -> dict[str, Any]:
    storage = bucket.spec.storage
    return {
        "type": storage.type,
        "s3": _s3(storage.s3),
        **without_empty(
            {
                "prefix": storage.prefix,
                "management": storage.management,
                "take_over": storage.take_over,
                "cors": _cors(storage.cors),
                "abort_incomplete_after_days": storage.abort_incomplete_after_days,
            }
        ),
        "claimant": {"namespace_uid": place.uid, "namespace": bucket.namespace, "name": bucket.name},
    }


def _s3(s3: S3) -> dict[str, Any]:
    return without_empty(
        {
            "provider": s3.provider,
            "bucket": s3.bucket,
            "region": s3.region,
            "endpoint": s3.endpoint,
            "public_endpoint": s3.public_endpoint,
            "addressing_style": s3.addressing_style,
            "ca_bundle": names.CA_FILE if s3.ca_bundle_ref else None,
            "credentials": _credentials(s3),
        }
    )


def _credentials(s3: S3) -> dict[str, str]:
    """With workload identity the pod's environment holds whatever the platform put there."""
    secret = s3.credentials.secret_ref
    if s3.credentials.type == "WorkloadIdentity" or secret is None:
        return {"type": "Environment"}
    files = {
        "type": "Files",
        "access_key_id_file": f"{names.CREDENTIALS}/access-key-id",
        "secret_access_key_file": f"{names.CREDENTIALS}/secret-access-key",
    }
    if secret.session_token_key:
        files["session_token_file"] = f"{names.CREDENTIALS}/session-token"
    return files


def _upload(bucket: UploadBucket) -> dict[str, Any]:
    upload = bucket.spec.upload
    return without_empty(
        {
            "part_size": upload.part_size,
            "max_object_size": upload.max_object_size,
            "url_ttl": _seconds(upload.url_ttl),
            "session_ttl": _seconds(upload.session_ttl),
            "allowed_content_types": list(upload.allowed_content_types),
        }
    )


def _download(bucket: UploadBucket) -> dict[str, Any]:
    download = bucket.spec.download
    return without_empty({"url_ttl": _seconds(download.url_ttl), "disposition": download.disposition})


def _instant_upload(bucket: UploadBucket) -> dict[str, Any]:
    """The default scope is left out: objects from before there was a choice keep their hash."""
    instant = bucket.spec.instant_upload
    scope = None if instant.scope == "Owner" else instant.scope
    return without_empty({"scope": scope, "min_size": instant.min_size})


def _integrity(bucket: UploadBucket) -> dict[str, Any]:
    """The default is left out, as above."""
    mode = bucket.spec.integrity.mode
    return {} if mode == "Enforced" else {"mode": mode}


def _auth(bucket: UploadBucket, operator: OperatorSettings) -> dict[str, Any]:
    if bucket.spec.auth.service_accounts.validation != "JWKS":
        return {}
    service_accounts = {
        "audience": names.audience(bucket),
        "api_server": operator.api_server_url,
        "token_file": f"{names.API_SERVER}/token",
        "ca_file": f"{names.API_SERVER}/ca.crt",
    }
    return {"service_accounts": service_accounts, "rules_file": names.RULES_FILE}


def _cors(cors: Cors) -> dict[str, Any]:
    return without_empty({"allowed_origins": list(cors.allowed_origins)})


def _limits(limits: Limits) -> dict[str, Any]:
    return without_empty(asdict(limits))


def _listen(bucket: UploadBucket) -> dict[str, Any]:
    tls = {"cert_file": f"{names.TLS}/tls.crt", "key_file": f"{names.TLS}/tls.key"} if bucket.spec.api.tls else None
    return without_empty(
        {
            "host": "0.0.0.0",  # noqa: S104 - the pod's own network; the NetworkPolicy says who may come
            "port": names.API_PORT,
            "admin_host": "0.0.0.0",  # noqa: S104 - as above
            "admin_port": names.ADMIN_PORT,
            "public_url": names.url(bucket),
            "drain": _seconds(DRAIN),
            "lame_duck": _seconds(LAME_DUCK),
            "tls": tls,
        }
    )


def _seconds(value: timedelta | None) -> str | None:
    """One way of writing for equal durations, so that `1h` for `60m` rolls nothing."""
    return None if value is None else f"{value.total_seconds():.3f}".rstrip("0").rstrip(".") + "s"
