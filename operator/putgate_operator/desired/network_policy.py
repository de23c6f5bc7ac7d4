"""Who may reach the API's pods, and what they may reach.

A tenant chooses the endpoint that the API dials, so the addresses under which clouds hand a node's own credentials to
whoever asks are closed to it; but for workload identity, whose credentials come from there.
"""

from __future__ import annotations

from typing import Any

from putgate_operator.desired import names
from putgate_operator.desired.manifest import child, sealed
from putgate_operator.kinds import NETWORK_POLICY
from putgate_operator.observed import Manifest, OperatorSettings, Peer
from putgate_operator.resources import UploadBucket

_EVERYWHERE = {
    "0.0.0.0/0": ["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32"],
    "::/0": ["fd00:ec2::/32", "fd20:ce::254/128"],
}
"""All addresses, and the metadata services among them: link-local ones, Alibaba's, Azure's; Amazon's, Google's."""


def network_policy(bucket: UploadBucket, operator: OperatorSettings) -> Manifest:
    home = Peer(
        namespace_labels={"kubernetes.io/metadata.name": operator.operator_namespace},
        pod_labels=operator.operator_pod_labels,
    )
    admin = [_peer(peer) for peer in (home, *operator.monitoring)]
    spec = {
        "podSelector": {"matchLabels": names.selector(bucket)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [_tcp(names.API_PORT)]}, {"from": admin, "ports": [_tcp(names.ADMIN_PORT)]}],
        "egress": egress(bucket),
    }
    return sealed({**child(bucket, NETWORK_POLICY, names.api(bucket)), "spec": spec})


def egress(bucket: UploadBucket) -> list[dict[str, Any]]:
    """Name servers may be node-local, hence link-local. Some networks match pods by selector only, never by address."""
    if bucket.spec.storage.s3.credentials.type == "WorkloadIdentity":
        return [{}]
    blocks = [{"ipBlock": {"cidr": cidr, "except": closed}} for cidr, closed in _EVERYWHERE.items()]
    dns = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    return [{"to": [*blocks, {"namespaceSelector": {}}]}, {"ports": dns}]


def _tcp(port: int) -> dict[str, Any]:
    return {"port": port, "protocol": "TCP"}


def _peer(peer: Peer) -> dict[str, Any]:
    selected: dict[str, Any] = {"namespaceSelector": _selector(peer.namespace_labels)}
    if peer.pod_labels:
        selected["podSelector"] = _selector(peer.pod_labels)
    return selected


def _selector(labels: Any) -> dict[str, Any]:
    return {"matchLabels": dict(labels)} if labels else {}
