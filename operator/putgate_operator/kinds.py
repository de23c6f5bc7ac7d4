"""The kinds that the operator reads and writes, with their places in the API: a table, and nothing that acts.

There is no discovery: what is used is known, so a start costs no request and an aggregated API that is down, whose
discovery then fails, stops nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

GROUP = "putgate.io"
VERSION = "v1alpha1"
LABEL = "putgate.io/uploadbucket"
"""On every child, and on its pods: the UploadBucket's name. Watches ask the API server for nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of objects. `group` is empty for the core API."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection, or of one object or subresource."""
        steps = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace is not None:
            steps += ["namespaces", namespace]
        steps.append(self.plural)
        steps += [step for step in (name, subresource) if step is not None]
        return "/" + "/".join(quote(step, safe="") for step in steps)


UPLOAD_BUCKET = Kind(group=GROUP, version=VERSION, kind="UploadBucket", plural="uploadbuckets")
NAMESPACE = Kind(group="", version="v1", kind="Namespace", plural="namespaces", namespaced=False)
SECRET = Kind(group="", version="v1", kind="Secret", plural="secrets")
EVENT = Kind(group="events.k8s.io", version="v1", kind="Event", plural="events")
LEASE = Kind(group="coordination.k8s.io", version="v1", kind="Lease", plural="leases")

CONFIG_MAP = Kind(group="", version="v1", kind="ConfigMap", plural="configmaps")
SERVICE = Kind(group="", version="v1", kind="Service", plural="services")
SERVICE_ACCOUNT = Kind(group="", version="v1", kind="ServiceAccount", plural="serviceaccounts")
DEPLOYMENT = Kind(group="apps", version="v1", kind="Deployment", plural="deployments")
DISRUPTION_BUDGET = Kind(group="policy", version="v1", kind="PodDisruptionBudget", plural="poddisruptionbudgets")
NETWORK_POLICY = Kind(group="networking.k8s.io", version="v1", kind="NetworkPolicy", plural="networkpolicies")
JOB = Kind(group="batch", version="v1", kind="Job", plural="jobs")
REPLICA_SET = Kind(group="apps", version="v1", kind="ReplicaSet", plural="replicasets")
POD = Kind(group="", version="v1", kind="Pod", plural="pods")

WRITTEN = (CONFIG_MAP, SERVICE_ACCOUNT, SERVICE, NETWORK_POLICY, DISRUPTION_BUDGET, DEPLOYMENT, JOB)
"""Kinds of children that the operator applies and watches."""

WATCHED = (*WRITTEN, REPLICA_SET, POD)
"""All kinds that belong to an UploadBucket and are watched, by `LABEL`."""

BY_NAME = {kind.kind: kind for kind in (UPLOAD_BUCKET, NAMESPACE, SECRET, EVENT, LEASE, *WATCHED)}
