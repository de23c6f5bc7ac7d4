"""What `reconcile` looks at: one UploadBucket with everything around it, as values.

All that a decision depends on is here, the clock and the operator's own settings too, so that the same values always
lead to the same decision. Nothing here asks anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from putgate_operator.kinds import GROUP
from putgate_operator.resources import UploadBucket
from putgate_protocol.report import Report

PAUSED = f"{GROUP}/paused"
"""The annotation of an UploadBucket that stops all writes, by the value `true`."""

Raw = Mapping[str, Any]
"""An object as the API server shows it."""

Manifest = dict[str, Any]
"""An object as it is sent to the API server."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ChildKey:
    """One object in the UploadBucket's namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """A pod that was asked for its report and gave none; `why` is short and for people."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The UploadBucket's namespace. Its uid goes into the claim on a bucket: nothing is decided before it is known."""

    name: str
    uid: str
    terminating: bool = False

    def __post_init__(self) -> None:
        if not self.uid:
            raise ValueError(f"namespace {self.name} has not been seen yet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Pods, as a NetworkPolicy selects them; empty labels select all."""

    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    pod_labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """What all UploadBuckets of this operator share.

    `monitoring`: who beside the operator may reach the admin port. `api_server_url`: how pods name the API server.
    `max_concurrent_rollouts`: how many Deployments an upgrade of the operator rolls at once; 0 would roll none, too
    many would restart every API of the cluster together.
    """

    image: str
    image_pull_policy: str = "IfNotPresent"
    version: str
    max_concurrent_rollouts: int = 10
    operator_namespace: str
    operator_pod_labels: Mapping[str, str]
    monitoring: tuple[Peer, ...] = ()
    api_server_url: str = "https://kubernetes.default.svc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One UploadBucket and its surroundings.

    `children`: live objects that carry the UploadBucket's label, and any object that was found to hold a name that a
    child needs, whoever made it. Secrets are never among them: the operator cannot read any. `pods`, `replica_sets`:
    those with the label. `reports`: by pod uid; a pod that was not asked is absent. `rolling`: slots that *other*
    Deployments hold (`rollout.holds_slot`), with those that have just been given away and that no watch shows yet.
    """

    bucket: UploadBucket
    namespace: Place
    children: Mapping[ChildKey, Raw]
    pods: tuple[Raw, ...]
    replica_sets: tuple[Raw, ...]
    reports: Mapping[str, Report | Unreachable]
    rolling: int
    now: datetime
    settings: OperatorSettings

    @property
    def paused(self) -> bool:
        return self.bucket.annotations.get(PAUSED) == "true"

    def child(self, kind: str, name: str) -> Raw | None:
        return self.children.get(ChildKey(kind=kind, name=name))


def dig(raw: Raw | None, *path: str | int, default: Any = None) -> Any:
    """The value at a path of keys and indexes; `default` where any step is absent or null."""
    found: Any = raw
    for step in path:
        if isinstance(step, int):
            found = found[step] if isinstance(found, list | tuple) and -len(found) <= step < len(found) else None
        else:
            found = found.get(step) if isinstance(found, Mapping) else None
        if found is None:
            return default
    return found
