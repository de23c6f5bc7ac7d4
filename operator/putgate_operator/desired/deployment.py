"""The Deployment that runs `putgate-api`: code that sits beside credentials, so all of it is the operator's choice but
resources, replicas and where it is scheduled.
"""

from __future__ import annotations

from typing import Any

from putgate_operator.desired import names, pod
from putgate_operator.desired.manifest import GENERATION, child, digest, sealed
from putgate_operator.desired.settings import DRAIN, LAME_DUCK, Keys
from putgate_operator.kinds import DEPLOYMENT, GROUP
from putgate_operator.observed import Manifest, OperatorSettings
from putgate_operator.resources import UploadBucket

TEMPLATE_HASH = f"{GROUP}/template-hash"
"""On the Deployment, on its template and so on every ReplicaSet and pod: which template a pod runs."""

SETTINGS_HASH = f"{GROUP}/settings-hash"
OPERATOR_VERSION = f"{GROUP}/operator-version"
UPLOAD_KEYS = f"{GROUP}/upload-keys"
"""The state of `keys`, written together with the template that it is about."""

ROLLOUT = f"{GROUP}/rollout"
"""Who caused the template to change last: see `rollout`."""

_SHUTDOWN = 10
"""Seconds beyond lame duck and drain: for closing connections, and for a node that is slow."""

_PROGRESS_DEADLINE = 600
"""Seconds until a rollout that does not get on counts as failed and gives its slot back. Too short fails slow image
pulls, too long keeps others waiting."""


def pod_template(bucket: UploadBucket, operator: OperatorSettings, settings_hash: str, keys: Keys) -> dict[str, Any]:
    """It carries the hash of all the rest of it."""
    labels = names.labels(bucket)
    annotations = {SETTINGS_HASH: settings_hash, "kubectl.kubernetes.io/default-container": names.API_CONTAINER}
    spec = _pod(bucket, operator, settings_hash, keys)
    made = digest({"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}, 16)
    return {"metadata": {"labels": labels, "annotations": {**annotations, TEMPLATE_HASH: made}}, "spec": spec}


def deployment(
    bucket: UploadBucket, operator: OperatorSettings, template: dict[str, Any], *, key_state: str, rollout: str
) -> Manifest:
    """`template`: from `pod_template`. `key_state`, `rollout`: what the annotations of that name shall say."""
    manifest = child(bucket, DEPLOYMENT, names.api(bucket))
    manifest["metadata"]["annotations"] |= {
        **{key: template["metadata"]["annotations"][key] for key in (TEMPLATE_HASH, SETTINGS_HASH)},
        OPERATOR_VERSION: operator.version,
        UPLOAD_KEYS: key_state,
        ROLLOUT: rollout,
        GENERATION: str(bucket.generation),
    }
    manifest["spec"] = {
        "replicas": bucket.spec.api.replicas,
        # To stop writes there is an annotation that says so in the status.
        "paused": False,
        "selector": {"matchLabels": names.selector(bucket)},
        # Never fewer than are wanted: a template that cannot become ready takes nothing away.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "progressDeadlineSeconds": _PROGRESS_DEADLINE,
        "revisionHistoryLimit": 2,
        "template": template,
    }
    return sealed(manifest)


def _pod(bucket: UploadBucket, operator: OperatorSettings, settings_hash: str, keys: Keys) -> dict[str, Any]:
    mounted = _volumes(bucket, settings_hash, keys)
    command = ["putgate-api", "serve", "--config", names.SETTINGS_FILE]
    api = pod.container(bucket, operator, names.API_CONTAINER, command)
    api |= {
        "ports": [
            {"name": "http", "containerPort": names.API_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": names.ADMIN_PORT, "protocol": "TCP"},
        ],
        **_probes(),
        "volumeMounts": [
            *(pod.mount(volume["name"], path) for volume, path in mounted),
            pod.SCRATCH_MOUNT,
        ],
    }
    grace = int((LAME_DUCK + DRAIN).total_seconds()) + _SHUTDOWN
    spec = pod.confined(bucket, names.service_account(bucket), grace)
    spec |= {"containers": [api], "volumes": [*(volume for volume, _ in mounted), pod.SCRATCH]}
    if bucket.spec.api.scheduling.topology_spread != "None":
        spec["topologySpreadConstraints"] = [
            _spread(bucket, key) for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ]
    return spec


def _spread(bucket: UploadBucket, topology_key: str) -> dict[str, Any]:
    """Replicas apart where that is possible; counted per template, or a rollout would see the pods that leave."""
    return {
        "maxSkew": 1,
        "topologyKey": topology_key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": names.selector(bucket)},
        "matchLabelKeys": ["pod-template-hash"],
    }


def _probes() -> dict[str, Any]:
    """Preparing the bucket gates readiness, and may take as long as a Secret is missing; so only `/healthz`, which
    answers as soon as the process serves, can ever restart a container.
    """
    return {
        "startupProbe": _probe("/healthz", period=1, failures=60),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "livenessProbe": _probe("/healthz", period=10, failures=3),
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "admin", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "successThreshold": 1,
        "failureThreshold": failures,
    }


def _volumes(bucket: UploadBucket, settings_hash: str, keys: Keys) -> list[tuple[dict[str, Any], str]]:
    """Volumes, each with the folder it is mounted to."""
    settings = pod.config_map_volume("settings", names.settings(bucket, settings_hash), "settings.yaml")
    found = [
        (settings, names.SETTINGS_FILE.rpartition("/")[0]),
        (_upload_keys(bucket, keys), names.UPLOAD_KEYS),
        *pod.store_volumes(bucket),
    ]
    if (tls := bucket.spec.api.tls) is not None:
        items = [{"key": key, "path": key} for key in ("tls.crt", "tls.key")]
        found.append((pod.secret_volume("tls", tls.secret_name, items), names.TLS))
    if bucket.spec.auth.service_accounts.validation == "JWKS":
        rules = pod.config_map_volume("rules", names.rules(bucket), "rules.yaml")
        found += [(rules, names.RULES_FILE.rpartition("/")[0]), (_api_server(), names.API_SERVER)]
    return found


def _upload_keys(bucket: UploadBucket, keys: Keys) -> dict[str, Any]:
    sources = [
        {
            "secret": {
                "name": names.key_secret(bucket, key_id),
                "items": [{"key": "key", "path": key_id}],
                "optional": True,
            }
        }
        for key_id in keys.accepted
    ]
    return {"name": "upload-keys", "projected": {"sources": sources, "defaultMode": pod.MODE}}


def _api_server() -> dict[str, Any]:
    """A token for the API server alone, used to fetch the keys that callers' tokens are signed with."""
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
    return {"name": "apiserver", "projected": {"sources": sources, "defaultMode": pod.MODE}}
