"""UploadBuckets as people write them, and changes to them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

GONE = object()
"""As a change: the field is removed."""

MINIMAL: dict[str, Any] = {
    "apiVersion": "putgate.io/v1alpha1",
    "kind": "UploadBucket",
    "metadata": {"name": "media"},
    "spec": {
        "storage": {
            "type": "S3",
            "s3": {
                "bucket": "media",
                "endpoint": "http://store.storage:8333",
                "credentials": {"type": "Secret", "secretRef": {"name": "media-s3"}},
            },
        },
    },
}

EVERYTHING: dict[str, Any] = {
    "apiVersion": "putgate.io/v1alpha1",
    "kind": "UploadBucket",
    "metadata": {"name": "media"},
    "spec": {
        "storage": {
            "type": "S3",
            "s3": {
                "provider": "SeaweedFS",
                "bucket": "media",
                "region": "eu-central-1",
                "endpoint": "https://store.storage:8333",
                "publicEndpoint": "https://s3.example.com",
                "addressingStyle": "Path",
                "caBundleRef": {"kind": "Secret", "name": "store-ca", "key": "tls.crt"},
                "credentials": {
                    "type": "Secret",
                    "secretRef": {
                        "name": "media-s3",
                        "accessKeyIDKey": "AWS_ACCESS_KEY_ID",
                        "secretAccessKeyKey": "AWS_SECRET_ACCESS_KEY",
                        "sessionTokenKey": "AWS_SESSION_TOKEN",
                    },
                },
            },
            "prefix": "tenants/a/",
            "management": "Create",
            "takeOver": "0123456789abcdef0123456789abcdef",
            "cors": {"allowedOrigins": ["https://app.example.com", "http://[::1]:8080"]},
            "abortIncompleteAfterDays": 3,
        },
        "layout": "Path",
        "upload": {
            "partSize": "16Mi",
            "maxObjectSize": "1Ti",
            "urlTTL": "10m",
            "sessionTTL": "36h",
            "allowedContentTypes": ["image/png", "application/vnd.api+json"],
        },
        "download": {"urlTTL": "1m30s", "disposition": "Attach"},
        "instantUpload": {"scope": "Bucket", "minSize": "1Mi"},
        "integrity": {"mode": "Unverified"},
        "auth": {"serviceAccounts": {"validation": "JWKS"}},
        "access": [
            {
                "name": "team-a",
                "subjects": [
                    {"kind": "ServiceAccount", "name": "uploader", "namespace": "apps"},
                    {"kind": "ServiceAccount", "name": "reader"},
                    {"kind": "User", "name": "system:serviceaccount:apps:other"},
                    {"kind": "Group", "name": "system:serviceaccounts:apps"},
                ],
                "verbs": ["upload", "download", "list", "delete"],
                "prefixes": ["", "team-a/", "by/{namespace}/{serviceAccount}/", "users/{user}/on-{node}/"],
                "maxObjectSize": 1073741824,
            },
        ],
        "api": {
            "replicas": 3,
            "serviceAccountName": "media",
            "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": 536870912}},
            "tls": {"secretName": "media-tls"},
            "limits": {"openUploadsPerOwner": 100, "requestsPerSecond": 50, "requestBurst": 60},
            "cors": {"allowedOrigins": ["*"]},
            "scheduling": {
                "nodeSelector": {"kubernetes.io/arch": "amd64"},
                "tolerations": [
                    {"key": "dedicated", "operator": "Equal", "value": "storage", "effect": "NoSchedule"},
                    {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
                ],
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {
                                    "matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd", "nvme"]}],
                                    "matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}],
                                },
                            ],
                        },
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {
                                "weight": 10,
                                "preference": {"matchExpressions": [{"key": "fast", "operator": "Exists"}]},
                            },
                        ],
                    },
                    "podAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {
                                "weight": 1,
                                "podAffinityTerm": {
                                    "topologyKey": "topology.kubernetes.io/zone",
                                    "namespaces": ["storage"],
                                    "labelSelector": {"matchLabels": {"app": "store"}},
                                },
                            },
                        ],
                    },
                    "podAntiAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": [
                            {
                                "topologyKey": "kubernetes.io/hostname",
                                "labelSelector": {
                                    "matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["store"]}],
                                },
                                "namespaceSelector": {},
                            },
                        ],
                    },
                },
                "topologySpread": "None",
            },
        },
        "deletionPolicy": "Delete",
    },
}

STATUS: dict[str, Any] = {
    "observedGeneration": 3,
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "observedGeneration": 3,
            "lastTransitionTime": "2026-11-01T00:00:00Z",
            "reason": "Available",
            "message": "2 of 2 replicas are available.",
        },
    ],
    "url": "http://media-putgate-api.apps.svc",
    "audience": "putgate.io/apps/media",
    "clientConfigMapName": "media-putgate",
    "bucket": {"created": True, "claimID": "0123456789abcdef0123456789abcdef"},
    "integrity": {"tier": "sha256", "probedAt": "2026-11-01T00:00:00Z", "findings": ["conditional Completes race"]},
    "capabilities": {"commitByPut": True, "conditionalComplete": False},
    "limits": {"partSize": 8388608, "maxObjectSize": 5497558138880, "urlTTLSeconds": 900},
    "uploadKeys": {
        "active": "0123456789",
        "accepted": ["0123456789", "abcdef0123"],
        "phase": "Retiring",
        "lastRotation": "2026-11-01T00:00:00Z",
    },
    "api": {
        "replicas": 2,
        "readyReplicas": 2,
        "selector": "app.kubernetes.io/name=putgate-api,putgate.io/uploadbucket=media",
        "version": "0.1.0",
        "settingsHash": "0123456789",
    },
}


def changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with other values at these paths (`spec.access.0.name`); objects on the way are made."""
    made: Any = copy.deepcopy(dict(base))
    for path, value in changes.items():
        *way, last = path.split(".")
        at = made
        for step in way:
            at = at[int(step)] if isinstance(at, list) else at.setdefault(step, {})
        if value is GONE:
            del at[last]
        else:
            at[int(last) if isinstance(at, list) else last] = value
    return dict(made)
