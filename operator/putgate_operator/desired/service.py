"""The Service under whose name applications in the cluster reach the API."""

from __future__ import annotations

from putgate_operator.desired import names
from putgate_operator.desired.manifest import child, sealed
from putgate_operator.kinds import SERVICE
from putgate_operator.observed import Manifest
from putgate_operator.resources import UploadBucket


def service(bucket: UploadBucket) -> Manifest:
    """The container's port is named `http` whatever it speaks, so turning TLS on changes this port alone."""
    name, port = ("https", 443) if bucket.spec.api.tls else ("http", 80)
    ports = [{"name": name, "port": port, "targetPort": "http", "protocol": "TCP"}]
    spec = {"type": "ClusterIP", "selector": names.selector(bucket), "ports": ports}
    return sealed({**child(bucket, SERVICE, names.api(bucket)), "spec": spec})
