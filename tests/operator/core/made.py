"""UploadBuckets and reports as these tests need them."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from putgate_operator.observed import OperatorSettings, Peer
from putgate_protocol.report import Report

UID = "7a0d7a8e-6d3c-4f0e-9d6a-000000000001"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)

OPERATOR = OperatorSettings(
    image="registry.example/putgate:0.1.0",
    version="0.1.0",
    max_concurrent_rollouts=3,
    operator_namespace="putgate-system",
    operator_pod_labels={"app.kubernetes.io/name": "putgate-operator"},
    monitoring=(Peer(namespace_labels={"kubernetes.io/metadata.name": "monitoring"}),),
)

MINIMAL: dict[str, Any] = {
    "storage": {
        "type": "S3",
        "s3": {
            "bucket": "media",
            "endpoint": "http://store.storage:8333",
            "credentials": {"type": "Secret", "secretRef": {"name": "media-s3"}},
        },
    },
}

FULL: dict[str, Any] = {
    "storage": {
        "type": "S3",
        "s3": {
            "provider": "Ceph",
            "bucket": "media",
            "region": "eu-1",
            "endpoint": "https://rgw.storage:8443",
            "publicEndpoint": "https://s3.example.com",
            "addressingStyle": "Path",
            "caBundleRef": {"kind": "ConfigMap", "name": "store-ca", "key": "bundle.pem"},
            "credentials": {
                "type": "Secret",
                "secretRef": {
                    "name": "rook",
                    "accessKeyIDKey": "AWS_ACCESS_KEY_ID",
                    "secretAccessKeyKey": "AWS_SECRET_ACCESS_KEY",
                    "sessionTokenKey": "AWS_SESSION_TOKEN",
                },
            },
        },
        "prefix": "tenant-a/",
        "management": "Create",
        "takeOver": "0123456789abcdef0123456789abcdef",
        "cors": {"allowedOrigins": ["https://app.example.com"]},
        "abortIncompleteAfterDays": 3,
    },
    "layout": "Path",
    "upload": {
        "partSize": "16Mi",
        "maxObjectSize": "1Ti",
        "urlTTL": "10m",
        "sessionTTL": "48h",
        "allowedContentTypes": ["image/png", "image/jpeg"],
    },
    "download": {"urlTTL": "1m", "disposition": "Attach"},
    "instantUpload": {"scope": "Bucket", "minSize": "1Mi"},
    "integrity": {"mode": "Unverified"},
    "auth": {"serviceAccounts": {"validation": "JWKS"}},
    "access": [
        {
            "name": "team-a",
            "subjects": [
                {"kind": "ServiceAccount", "name": "uploader", "namespace": "apps"},
                {"kind": "ServiceAccount", "name": "local"},
                {"kind": "Group", "name": "editors"},
            ],
            "verbs": ["upload", "download", "list", "delete"],
            "prefixes": ["team-a/", "{namespace}/"],
            "maxObjectSize": "1Gi",
        }
    ],
    "api": {
        "replicas": 3,
        "serviceAccountName": "media-irsa",
        "resources": {"requests": {"cpu": "0.5", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "tls": {"secretName": "media-tls"},
        "limits": {"openUploadsPerOwner": 100, "requestsPerSecond": 50, "requestBurst": 60},
        "cors": {"allowedOrigins": ["https://app.example.com", "https://other.example.com"]},
        "scheduling": {
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "storage", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}
                        ]
                    }
                }
            },
            "topologySpread": "Soft",
        },
    },
    "deletionPolicy": "Delete",
}


def upload_bucket(spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    """As the API server shows one."""
    return {
        "apiVersion": "putgate.io/v1alpha1",
        "kind": "UploadBucket",
        "metadata": {"name": "media", "namespace": "apps", "uid": UID, "generation": 1, **metadata},
        "spec": copy.deepcopy(MINIMAL if spec is None else spec),
    }


def condition(
    kind: str, status: str = "True", reason: str = "Ready", *, message: str = "", user_error: bool = False
) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "user_error": user_error}


GOOD = (
    condition("CredentialsValid", reason="Verified"),
    condition("BucketReady", reason="Adopted"),
    condition("BucketConfigured", reason="Configured"),
    condition("IntegrityVerified", reason="Verified"),
    condition("Authentication"),
)


def report(pod_uid: str, settings_hash: str, *conditions: dict[str, Any], **fields: Any) -> Report:
    """`conditions` replace the good ones of their types."""
    merged = {each["type"]: each for each in (*GOOD, *conditions)}
    plain: dict[str, Any] = {
        "version": "0.1.0",
        "pod": {"name": f"pod-{pod_uid}", "uid": pod_uid},
        "uploadbucket_uid": UID,
        "settings_hash": settings_hash,
        "rules_hash": None,
        "upload_keys": [],
        "state": "Ready",
        "conditions": list(merged.values()),
        "integrity": {"tier": "sha256", "probed_at": "2026-03-01T11:59:00Z", "findings": []},
        "capabilities": {"commitByPut": True},
        "limits": {"partSize": 8388608},
        "bucket": {"created": False, "claim_id": "c1"},
    }
    return Report.model_validate(plain | fields)
