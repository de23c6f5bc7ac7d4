"""A cluster in memory: it carries out what `reconcile` decides, and rolls Deployments pod by pod, as told.

It stands in for the API server and the controllers where their timing is what a test is about; what they do to a
manifest is tried on the real ones elsewhere.
"""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from putgate_operator.observed import ChildKey, Observed, OperatorSettings, Place, Raw, Unreachable
from putgate_operator.reconcile import Desired, Event, reconcile
from putgate_operator.resources import UploadBucket
from putgate_protocol.report import Report
from tests.operator.core.made import NOW, OPERATOR, report, upload_bucket

PLACE = Place(name="apps", uid="ns-uid")
TEMPLATE_HASH = "putgate.io/template-hash"


class Cluster:
    """One UploadBucket's surroundings. `writes`: of the operator, in order; `events`: what it told."""

    def __init__(self, raw: dict[str, Any] | None = None, operator: OperatorSettings = OPERATOR) -> None:
        self.raw = upload_bucket() if raw is None else raw
        self.operator = operator
        self.namespace = PLACE
        self.children: dict[ChildKey, dict[str, Any]] = {}
        self.secrets: dict[str, int] = {}
        self.made_secrets = itertools.count()
        self.sets: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.reports: dict[str, Report | Unreachable] = {}
        self.rolling = 0
        self.now = NOW
        self.writes: list[str] = []
        self.events: list[Event] = []
        self._uids = itertools.count(1)

    # What tests do.

    @property
    def deployment(self) -> dict[str, Any]:
        return self.child("Deployment", f"{self.name}-putgate-api")

    @property
    def name(self) -> str:
        return str(self.raw["metadata"]["name"])

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.raw.get("status", {}))

    def condition(self, kind: str) -> dict[str, Any]:
        return next(each for each in self.status["conditions"] if each["type"] == kind)

    def reason(self, kind: str) -> tuple[str, str]:
        found = self.condition(kind)
        return found["status"], found["reason"]

    def child(self, kind: str, name: str) -> dict[str, Any]:
        return self.children[ChildKey(kind=kind, name=name)]

    def spec(self, spec: dict[str, Any]) -> None:
        if spec != self.raw["spec"]:
            self.raw["spec"] = copy.deepcopy(spec)
            self.raw["metadata"]["generation"] += 1

    def annotate(self, **annotations: str) -> None:
        known = self.raw["metadata"].setdefault("annotations", {})
        known |= {f"putgate.io/{key.replace('_', '-')}": value for key, value in annotations.items()}

    def put(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Somebody else's object."""
        body = copy.deepcopy(raw)
        body["metadata"]["uid"] = self._uid()
        self.children[ChildKey(kind=body["kind"], name=body["metadata"]["name"])] = body
        return body

    def pass_time(self, **by: float) -> None:
        self.now += timedelta(**by)

    # The operator.

    def observe(self) -> Observed:
        return Observed(
            bucket=UploadBucket.parse(self.raw),
            namespace=self.namespace,
            children=self.children,
            pods=tuple(self.pods.values()),
            replica_sets=tuple(self.sets.values()),
            reports=dict(self.reports),
            rolling=self.rolling,
            now=self.now,
            settings=self.operator,
        )

    def reconcile(self) -> Desired:
        desired = reconcile(self.observe())
        self.carry_out(desired)
        return desired

    def settle(self) -> None:
        """Reconcile until there is nothing to write; that must come soon."""
        for _ in range(6):
            before = len(self.writes)
            self.reconcile()
            if len(self.writes) == before:
                return
        raise AssertionError(f"it never ends: {self.writes[-12:]}")

    def carry_out(self, desired: Desired) -> None:
        if desired.finalizer == "add":
            self._finalizers().append("putgate.io/bucket")
            self.writes.append("finalizer add")
        for secret in desired.create_secrets:
            name = secret.manifest["metadata"]["name"]
            if name not in self.secrets:
                self.secrets[name] = next(self.made_secrets)
                self.writes.append(f"create Secret {name}")
        for key in desired.delete:
            self._delete(key)
        for manifest in desired.apply:
            self._apply(manifest)
        if desired.status != self.raw.get("status", {}):
            self.raw["status"] = copy.deepcopy(desired.status)
            self.writes.append("status")
        self.events += desired.events
        if desired.finalizer == "remove":
            self._finalizers().remove("putgate.io/bucket")
            self.writes.append("finalizer remove")

    def _finalizers(self) -> list[str]:
        found: list[str] = self.raw["metadata"].setdefault("finalizers", [])
        return found

    def _delete(self, key: ChildKey) -> None:
        if key.kind == "Secret":
            self.secrets.pop(key.name, None)
        else:
            uid = self.children.pop(key)["metadata"]["uid"]
            if key.kind == "Job":
                self.pods = {name: pod for name, pod in self.pods.items() if _controller(pod) != uid}
        self.writes.append(f"delete {key}")

    def _apply(self, manifest: dict[str, Any]) -> None:
        key = ChildKey(kind=manifest["kind"], name=manifest["metadata"]["name"])
        body = copy.deepcopy(manifest)
        live = self.children.get(key)
        if live is None:
            assert "uid" not in body["metadata"], f"{key} is bound to what is not there"
            body["metadata"] |= {"uid": self._uid(), "generation": 1}
        else:
            assert body["metadata"]["uid"] == live["metadata"]["uid"], f"{key} would be taken over"
            changed = body.get("spec") != live.get("spec")
            body["metadata"]["generation"] = live["metadata"].get("generation", 1) + changed
            if "status" in live:
                body["status"] = live["status"]
        self.children[key] = body
        self.writes.append(f"apply {key}")

    def _uid(self) -> str:
        return f"uid-{next(self._uids)}"

    # The Deployment's controller and the kubelets.

    def roll(self) -> bool:
        """One step of a rollout, each visible from outside. False when there is none left."""
        live = self.children.get(ChildKey(kind="Deployment", name=f"{self.name}-putgate-api"))
        if live is None or "template" not in live["spec"]:
            return False
        moved = self._roll(live)
        self._count(live)
        return moved

    def finish(self, *, reporting: bool = True) -> None:
        """Rollouts to their end, every pod ready, and the operator has nothing more to do until time goes on."""
        for _ in range(12):
            moved = False
            for _ in range(100):
                if not self.roll():
                    break
                moved = True
            else:
                raise AssertionError("the rollout never ends")
            if reporting:
                self.report_all()
            before = len(self.writes)
            self.settle()
            if not moved and len(self.writes) == before:
                return
        raise AssertionError(f"it never ends: {self.writes[-12:]}")

    def _roll(self, live: dict[str, Any]) -> bool:
        current, wanted = self._set(live), live["spec"]["replicas"]
        mine = [pod for pod in self.pods.values() if _controller(pod) == current["metadata"]["uid"]]
        old = [pod for pod in self._api_pods() if pod not in mine]
        leaving = [pod for pod in self.pods.values() if "deletionTimestamp" in pod["metadata"]]
        staying_old = [pod for pod in old if pod not in leaving]
        unready = [pod for pod in mine if not _ready(pod)]
        if unready:
            return self.make_ready(unready[0])
        if len(mine) + len(staying_old) <= wanted and len(mine) < wanted:
            self._make_pod(current)
            return True
        if staying_old:
            staying_old[0]["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
            return True
        if len(mine) > wanted:
            self.kill(mine[-1])
            return True
        if leaving:
            self.kill(leaving[0])
            return True
        return False

    def _api_pods(self) -> list[dict[str, Any]]:
        return [
            pod for pod in self.pods.values() if pod["metadata"]["labels"]["app.kubernetes.io/name"] == "putgate-api"
        ]

    def _set(self, live: dict[str, Any]) -> dict[str, Any]:
        template = live["spec"]["template"]
        for found in self.sets.values():
            if found["spec"]["template"] == template:
                return found
        uid = self._uid()
        made = {
            "kind": "ReplicaSet",
            "metadata": {
                "name": uid,
                "uid": uid,
                "annotations": dict(live["metadata"]["annotations"]),
                "ownerReferences": [_owner(live["metadata"]["uid"])],
            },
            "spec": {"template": copy.deepcopy(template)},
        }
        self.sets[uid] = made
        return made

    def _make_pod(self, made_by: dict[str, Any]) -> dict[str, Any]:
        uid = self._uid()
        template = copy.deepcopy(made_by["spec"]["template"])
        self.pods[uid] = {
            "kind": "Pod",
            "metadata": {
                **template["metadata"],
                "name": f"pod-{uid}",
                "uid": uid,
                "ownerReferences": [_owner(made_by["metadata"]["uid"])],
            },
            "spec": template["spec"],
            "status": {"phase": "Running", "startTime": self.now.strftime("%Y-%m-%dT%H:%M:%SZ")},
        }
        return self.pods[uid]

    def make_ready(self, pod: dict[str, Any]) -> bool:
        """As the API does it: only with every accepted key."""
        if not self.keys_of(pod)["accepted"] <= self._found_keys():
            return False
        pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        return True

    def kill(self, pod: dict[str, Any]) -> None:
        del self.pods[pod["metadata"]["uid"]]
        self.reports.pop(pod["metadata"]["uid"], None)

    def _count(self, live: dict[str, Any]) -> None:
        current = self._set(live)["metadata"]["uid"]
        staying = [pod for pod in self._api_pods() if "deletionTimestamp" not in pod["metadata"]]
        ready = sum(map(_ready, staying))
        live["status"] = {
            "observedGeneration": live["metadata"]["generation"],
            "replicas": len(staying),
            "updatedReplicas": sum(_controller(pod) == current for pod in staying),
            "readyReplicas": ready,
            "availableReplicas": ready,
        }

    # What runs in the pods.

    def settings_of(self, pod: Raw) -> dict[str, Any]:
        volume = next(each for each in pod["spec"]["volumes"] if each["name"] == "settings")
        found: dict[str, Any] = json.loads(
            self.child("ConfigMap", volume["configMap"]["name"])["data"]["settings.yaml"]
        )
        return found

    def keys_of(self, pod: Raw) -> dict[str, Any]:
        keys = self.settings_of(pod)["upload_keys"]
        return {"signing": keys["signing"], "accepted": set(keys["accepted"])}

    def _found_keys(self) -> set[str]:
        return {name.rpartition("-key-")[2] for name in self.secrets}

    def report_all(self, *conditions: dict[str, Any], **fields: Any) -> None:
        for pod in self._api_pods():
            settings = self.settings_of(pod)
            keys = sorted(self.keys_of(pod)["accepted"] & self._found_keys())
            uid = pod["metadata"]["uid"]
            self.reports[uid] = report(
                uid, settings["identity"]["settings_hash"], *conditions, **({"upload_keys": keys} | fields)
            )

    def upgrade(self, image: str) -> None:
        self.operator = replace(self.operator, image=image, version=image.rpartition(":")[2])


def _owner(uid: str) -> dict[str, Any]:
    return {"uid": uid, "controller": True, "kind": "Owner", "name": uid}


def _controller(raw: Raw) -> str | None:
    return next((each["uid"] for each in raw["metadata"].get("ownerReferences", ()) if each.get("controller")), None)


def _ready(pod: Raw) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))
