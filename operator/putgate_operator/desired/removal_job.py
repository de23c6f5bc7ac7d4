"""The Job that removes a bucket, with the ConfigMap, the ServiceAccount and the NetworkPolicy it runs with.

None has an ownerReference: a deletion in the foreground would take them before the finalizer lets the UploadBucket go.
So the operator removes them itself.
"""

from __future__ import annotations

from typing import Any

from putgate_operator.desired import names, pod
from putgate_operator.desired.manifest import child, sealed
from putgate_operator.desired.network_policy import egress
from putgate_operator.desired.settings import SettingsFile, text
from putgate_operator.kinds import CONFIG_MAP, JOB, LABEL, NETWORK_POLICY, SERVICE_ACCOUNT, Kind
from putgate_operator.observed import Manifest, OperatorSettings
from putgate_operator.resources import UploadBucket

_DEADLINE = 600
"""Seconds for one try. It lists at most a page of each kind of things; what takes longer is a store that hangs."""


def removal_job(bucket: UploadBucket, operator: OperatorSettings, file: SettingsFile) -> tuple[Manifest, ...]:
    """In the order in which they are to be applied."""
    policy = {**_child(bucket, NETWORK_POLICY), "spec": _network(bucket)}
    made = [policy, {**_child(bucket, CONFIG_MAP), "data": {"settings.yaml": text(file)}}]
    if bucket.spec.api.service_account_name is None:
        made.append({**_child(bucket, SERVICE_ACCOUNT), "automountServiceAccountToken": False})
    made.append({**_child(bucket, JOB), "spec": _job(bucket, operator)})
    return tuple(map(sealed, made))


def _child(bucket: UploadBucket, kind: Kind) -> Manifest:
    return child(bucket, kind, names.removal(bucket), owned=False, app=names.REMOVAL_APP)


def _network(bucket: UploadBucket) -> dict[str, Any]:
    """It dials what the API's pods dial, and nobody calls it."""
    selected = {names.APP_LABEL: names.REMOVAL_APP, LABEL: bucket.name}
    types = ["Ingress", "Egress"]
    return {"podSelector": {"matchLabels": selected}, "policyTypes": types, "egress": egress(bucket)}


def _job(bucket: UploadBucket, operator: OperatorSettings) -> dict[str, Any]:
    """One pod, one try: the operator reads its result and decides about another."""
    labels = names.labels(bucket, names.REMOVAL_APP)
    template = {"metadata": {"labels": labels}, "spec": _pod(bucket, operator)}
    return {"backoffLimit": 0, "activeDeadlineSeconds": _DEADLINE, "template": template}


def _pod(bucket: UploadBucket, operator: OperatorSettings) -> dict[str, Any]:
    settings = pod.config_map_volume("settings", names.removal(bucket), "settings.yaml")
    mounted = [(settings, names.SETTINGS_FILE.rpartition("/")[0]), *pod.store_volumes(bucket)]
    command = ["putgate-api", "remove-bucket", "--wait", "--config", names.SETTINGS_FILE, *_known(bucket)]
    remove = pod.container(bucket, operator, names.REMOVE_CONTAINER, command)
    mounts = [pod.mount(volume["name"], path) for volume, path in mounted]
    remove["volumeMounts"] = [*mounts, pod.SCRATCH_MOUNT]
    account = bucket.spec.api.service_account_name or names.removal(bucket)
    return {
        **pod.confined(bucket, account, 30),
        "restartPolicy": "Never",
        "containers": [remove],
        "volumes": [*(volume for volume, _ in mounted), pod.SCRATCH],
    }


def _known(bucket: UploadBucket) -> list[str]:
    """The claim of a bucket that this object created. A removal that was cut off just before its end leaves none in
    the bucket, and without one nothing is removed.
    """
    seen = bucket.status.get("bucket", {})
    return ["--claim", str(seen["claimID"])] if seen.get("created") and "claimID" in seen else []
