"""What the pods of the API and of the removal Job share: how they are confined and what is mounted into them.

Everything secret is a volume with `items`, optional: the pod starts without it, says what is missing, and goes on when
the kubelet fills the file. Nothing secret is in the environment, and no mount is a subPath, which would never change.
"""

from __future__ import annotations

from typing import Any

from putgate_operator.desired import names
from putgate_operator.desired.manifest import without_empty
from putgate_operator.observed import OperatorSettings
from putgate_operator.resources import UploadBucket

MODE = 0o444
"""Everything in the pod runs as one user, which the image or the platform chooses; nothing is written."""

SCRATCH = {"name": "tmp", "emptyDir": {}}
SCRATCH_MOUNT = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - a pod's own
"""All that a pod may write."""

_REQUESTS = {"cpu": "100m", "memory": "128Mi"}
_LIMITS = {"memory": "512Mi"}
"""Where the owner says nothing. Signing needs CPU in bursts, so there is no CPU limit."""


def security() -> dict[str, Any]:
    """The pod's half of the `restricted` Pod Security Standard."""
    return {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def container_security() -> dict[str, Any]:
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def environment() -> list[dict[str, Any]]:
    fields = {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_UID": "metadata.uid",
        "POD_IP": "status.podIP",
        "NODE_NAME": "spec.nodeName",
    }
    return [
        {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
        for name, path in fields.items()
    ]


def container(bucket: UploadBucket, operator: OperatorSettings, name: str, command: list[str]) -> dict[str, Any]:
    """A container without its ports, probes and mounts."""
    return {
        "name": name,
        "image": operator.image,
        "imagePullPolicy": operator.image_pull_policy,
        "command": command,
        "env": environment(),
        "resources": dict(bucket.spec.api.resources) or {"requests": _REQUESTS, "limits": _LIMITS},
        "securityContext": container_security(),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }


def confined(bucket: UploadBucket, service_account: str, grace_seconds: int) -> dict[str, Any]:
    """The fields of a pod's spec that say where it runs and what it may."""
    scheduling = bucket.spec.api.scheduling
    return {
        "serviceAccountName": service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostNetwork": False,
        "securityContext": security(),
        "terminationGracePeriodSeconds": grace_seconds,
        **without_empty(
            {
                "nodeSelector": dict(scheduling.node_selector),
                "tolerations": [dict(toleration) for toleration in scheduling.tolerations],
                "affinity": dict(scheduling.affinity),
            }
        ),
    }


def mount(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "mountPath": path, "readOnly": True}


def config_map_volume(name: str, config_map: str, key: str) -> dict[str, Any]:
    items = [{"key": key, "path": key}]
    return {"name": name, "configMap": {"name": config_map, "items": items, "defaultMode": MODE}}


def store_volumes(bucket: UploadBucket) -> list[tuple[dict[str, Any], str]]:
    """What reaching the store needs: volumes, each with the folder it is mounted to."""
    found: list[tuple[dict[str, Any], str]] = []
    s3 = bucket.spec.storage.s3
    secret = s3.credentials.secret_ref
    if secret is not None and s3.credentials.type == "Secret":
        keys = {"access-key-id": secret.access_key_id_key, "secret-access-key": secret.secret_access_key_key}
        if secret.session_token_key:
            keys["session-token"] = secret.session_token_key
        items = [{"key": key, "path": path} for path, key in keys.items()]
        found.append((secret_volume("credentials", secret.name, items), names.CREDENTIALS))
    if (ca := s3.ca_bundle_ref) is not None:
        items = [{"key": ca.key, "path": "ca.crt"}]
        config_map = {"name": ca.name, "items": items, "defaultMode": MODE, "optional": True}
        volume = secret_volume("ca", ca.name, items) if ca.kind == "Secret" else {"name": "ca", "configMap": config_map}
        found.append((volume, names.CA_FILE.rpartition("/")[0]))
    return found


def secret_volume(name: str, secret: str, items: list[dict[str, str]]) -> dict[str, Any]:
    return {"name": name, "secret": {"secretName": secret, "items": items, "defaultMode": MODE, "optional": True}}
