"""The cluster → Observed: what is seen of one UploadBucket, put together for the decision.

`look` asks the API server for the little that no watch shows; `observe` asks nobody, so that nothing changes between
counting the rollouts that are under way and deciding on another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from putgate_operator.api_server import ApiServer
from putgate_operator.errors import Gone
from putgate_operator.kinds import BY_NAME, DEPLOYMENT, NAMESPACE, POD, REPLICA_SET, UPLOAD_BUCKET
from putgate_operator.observed import ChildKey, Observed, OperatorSettings, Unreachable, dig
from putgate_operator.observed import Place as Surroundings
from putgate_operator.pod_reports import Asked
from putgate_operator.resources import UploadBucket
from putgate_operator.rollout import holds_slot
from putgate_operator.seen import Place, Seen
from putgate_protocol.report import Report

Raw = dict[str, Any]


class Observer:
    """`granted`: UploadBuckets whose rollout was decided and is not seen yet; filled by who carries it out.
    `namespaces_watched`: what is seen of namespaces is up to date. A role for one namespace does not allow to watch it.
    """

    def __init__(
        self,
        server: ApiServer,
        seen: Seen,
        settings: OperatorSettings,
        clock: Callable[[], datetime],
        *,
        namespaces_watched: bool,
    ) -> None:
        self._server = server
        self._seen = seen
        self._settings = settings
        self.now = clock
        self._namespaces_watched = namespaces_watched
        self.granted: set[Place] = set()
        self._holding: set[Place] = set()

    async def look(self, place: Place) -> None:
        """Learn the namespace, and whether names that others held are free again. Raises `OperatorError`."""
        if not self._namespaces_watched or self._seen.get(NAMESPACE, "", place[0]) is None:
            found = await self._server.get(NAMESPACE, None, place[0])
            if found is None:
                raise Gone(f"namespace {place[0]} is gone")
            self._seen.put(NAMESPACE, found)
        for kind_name, name in self._seen.holders(place):
            kind = BY_NAME[kind_name]
            held = await self._server.get(kind, place[0], name)
            self._seen.hold(place, kind, name, None if held is None else {"kind": kind_name, **held})

    def observe(self, bucket: UploadBucket, reports: Mapping[str, Report | Unreachable]) -> Observed:
        place = (bucket.namespace, bucket.name)
        children = self._seen.children(place)
        namespace = self._seen.get(NAMESPACE, "", bucket.namespace)
        return Observed(
            bucket=bucket,
            namespace=Surroundings(
                name=bucket.namespace,
                uid=str(dig(namespace, "metadata", "uid", default="")),
                terminating=dig(namespace, "metadata", "deletionTimestamp") is not None,
            ),
            children={
                ChildKey(kind=kind, name=name): raw
                for (kind, name), raw in children.items()
                if kind not in (POD.kind, REPLICA_SET.kind)
            },
            pods=tuple(raw for (kind, _), raw in sorted(children.items()) if kind == POD.kind),
            replica_sets=tuple(raw for (kind, _), raw in sorted(children.items()) if kind == REPLICA_SET.kind),
            reports=reports,
            rolling=self._rolling(place),
            now=self.now(),
            settings=self._settings,
        )

    def _rolling(self, place: Place) -> int:
        """Slots that others hold. Looking at every Deployment for every UploadBucket would be most of the work."""
        for changed in self._seen.take_changed():
            bucket = self._seen.get(UPLOAD_BUCKET, *changed)
            deployments = (raw for (kind, _), raw in self._seen.children(changed).items() if kind == DEPLOYMENT.kind)
            if any(holds_slot(raw, bucket) for raw in deployments):
                self._holding.add(changed)
            else:
                self._holding.discard(changed)
        return len((self._holding | self.granted) - {place})


def askable(seen: Seen, place: Place, uid: str, *, ready: bool) -> list[Asked]:
    """The API pods to be asked for a report: running ones of this UploadBucket's own Deployment, never one in the
    node's network, whose address would be the node's.
    """
    children = seen.children(place)
    deployments = {
        raw["metadata"]["uid"]
        for (kind, _), raw in children.items()
        if kind == DEPLOYMENT.kind and _controller(raw) == uid
    }
    sets = {
        raw["metadata"]["uid"]
        for (kind, _), raw in children.items()
        if kind == REPLICA_SET.kind and _controller(raw) in deployments
    }
    return [
        Asked(uid=raw["metadata"]["uid"], ip=ip, eager=not ready)
        for (kind, _), raw in sorted(children.items())
        if kind == POD.kind
        and _controller(raw) in sets
        and (ip := dig(raw, "status", "podIP"))
        and not dig(raw, "spec", "hostNetwork", default=False)
        and dig(raw, "status", "phase") == "Running"
        and dig(raw, "metadata", "deletionTimestamp") is None
    ]


def _controller(raw: Raw) -> str | None:
    references = dig(raw, "metadata", "ownerReferences", default=())
    return next((str(reference["uid"]) for reference in references if reference.get("controller")), None)
