"""The names, labels, paths and addresses that tie an UploadBucket's children together. Chosen for good: a changed name
would leave the old object behind.
"""

from __future__ import annotations

from putgate_operator.kinds import LABEL
from putgate_operator.resources import UploadBucket

APP_LABEL = "app.kubernetes.io/name"
APP = "putgate-api"
REMOVAL_APP = "putgate-remove"
API_CONTAINER = "api"
REMOVE_CONTAINER = "remove"

API_PORT = 8080
ADMIN_PORT = 8081
"""Fixed: the operator asks every pod for its report here."""

SETTINGS_FILE = "/etc/putgate/settings/settings.yaml"
RULES_FILE = "/etc/putgate/rules/rules.yaml"
CREDENTIALS = "/etc/putgate/credentials"
UPLOAD_KEYS = "/etc/putgate/upload-keys"
TLS = "/etc/putgate/tls"
CA_FILE = "/etc/putgate/ca/ca.crt"
API_SERVER = "/var/run/secrets/putgate/apiserver"


def api(bucket: UploadBucket) -> str:
    """The name of the Deployment, Service, ServiceAccount, PodDisruptionBudget and NetworkPolicy."""
    return f"{bucket.name}-putgate-api"


def rules(bucket: UploadBucket) -> str:
    return f"{bucket.name}-putgate-rules"


def settings(bucket: UploadBucket, settings_hash: str) -> str:
    return f"{settings_prefix(bucket)}{settings_hash}"


def settings_prefix(bucket: UploadBucket) -> str:
    return f"{bucket.name}-putgate-settings-"


def client_config(bucket: UploadBucket) -> str:
    return f"{bucket.name}-putgate"


def key_secret(bucket: UploadBucket, key_id: str) -> str:
    return f"{bucket.name}-key-{key_id}"


def removal(bucket: UploadBucket) -> str:
    """The name of the removal Job, its ConfigMap and its ServiceAccount."""
    return f"{bucket.name}-putgate-remove"


def service_account(bucket: UploadBucket) -> str:
    """Under which the API's pods run: the owner's, or one that is made."""
    return bucket.spec.api.service_account_name or api(bucket)


def selector(bucket: UploadBucket) -> dict[str, str]:
    """Of the API's pods; immutable in a Deployment."""
    return {APP_LABEL: APP, LABEL: bucket.name}


def labels(bucket: UploadBucket, app: str = APP) -> dict[str, str]:
    return {
        APP_LABEL: app,
        "app.kubernetes.io/instance": bucket.name,
        "app.kubernetes.io/managed-by": "putgate-operator",
        "app.kubernetes.io/component": "api" if app == APP else "removal",
        LABEL: bucket.name,
    }


def url(bucket: UploadBucket) -> str:
    """Where applications in the cluster reach the API."""
    scheme = "https" if bucket.spec.api.tls else "http"
    return f"{scheme}://{api(bucket)}.{bucket.namespace}.svc"


def audience(bucket: UploadBucket) -> str:
    """For which a caller's ServiceAccount token must have been made."""
    return f"putgate.io/{bucket.namespace}/{bucket.name}"
