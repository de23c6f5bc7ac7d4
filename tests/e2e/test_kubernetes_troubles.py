"""What goes wrong with UploadBuckets, on a real control plane: each trouble says its own reason and what to do, heals
when its cause goes, and is nobody else's.

All stand side by side in one installation, since that is where one could hold up another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from tests.e2e.installed import Installed, of
from tests.e2e.odd_stores import CarelessStore, in_region
from tests.servers.kube.waiting import until
from tests.servers.node.network import OUTSIDE
from tests.servers.proxy import StoreProxy, running

pytestmark = pytest.mark.slow

REGION = "eu-central-1"
DETAILS = ("CredentialsValid", "BucketReady", "BucketConfigured", "IntegrityVerified", "ApiAvailable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """`detail`: the condition that tells it beside `Ready`. `stalled`: it waits for somebody to change something.
    `says`: what the message must name.
    """

    reason: str
    detail: str | None = None
    stalled: bool = False
    says: tuple[str, ...]


TROUBLES = {
    "secretless": Trouble(
        reason="SecretMissing", detail="CredentialsValid", stalled=True, says=("secretless-s3", "create the Secret")
    ),
    "keyless": Trouble(
        reason="SecretKeyMissing", detail="CredentialsValid", stalled=True, says=("keyless-s3", "secretAccessKey")
    ),
    "rejected": Trouble(
        reason="CredentialsRejected",
        detail="CredentialsValid",
        stalled=True,
        says=("does not accept the credentials", "give it valid ones"),
    ),
    "elsewhere": Trouble(
        reason="WrongRegion",
        detail="BucketReady",
        stalled=True,
        says=("not in region us-east-1", f"in region {REGION}", "set storage.s3.region"),
    ),
    "down": Trouble(
        reason="StoreUnreachable", detail="BucketReady", says=(OUTSIDE, "connection refused", "storage.s3.endpoint")
    ),
    "absent": Trouble(
        reason="BucketNotFound", detail="BucketReady", stalled=True, says=("create it", "storage.management to Create")
    ),
    "careless": Trouble(
        reason="IntegrityNotEnforced",
        detail="IntegrityVerified",
        stalled=True,
        says=("enforces neither SHA-256 nor MD5", "use another store"),
    ),
    "unpulled": Trouble(reason="ImagePullFailed", says=("putgate:test", "Check the operator's image setting")),
    "unplaced": Trouble(reason="Unschedulable", says=("node affinity/selector", "spec.api.scheduling")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The troubles of one installation, and how each is ended. `pulling`: ends when images can be pulled."""

    installed: Installed
    down: StoreProxy
    careless: CarelessStore
    endpoints: dict[str, str]
    open: ExitStack
    pulling: ExitStack = field(default_factory=ExitStack)

    @property
    def label(self) -> str:
        return f"putgate.test/{self.installed.namespace}"

    @property
    def absent(self) -> str:
        return f"absent-{self.installed.namespace}"

    def bucket(self, name: str, *, s3: dict[str, Any] | None = None, **spec: Any) -> None:
        storage = {"prefix": f"{self.installed.namespace}/{name}/", **spec.pop("storage", {})}
        self.installed.bucket(name, s3=s3, storage=storage, **spec)

    def begin(self) -> None:
        installed = self.installed
        installed.secret()
        installed.secret("rejected-s3", secretAccessKey="wrong")
        plain = {"accessKeyId": installed.store.access_key, "secret_access_key": installed.store.secret_key}
        keyless = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keyless-s3"}, "stringData": plain}
        installed.apply(keyless)
        for name in ("secretless", "keyless", "rejected"):
            self.bucket(name, s3={"credentials": {"type": "Secret", "secretRef": {"name": f"{name}-s3"}}})
        for name in ("elsewhere", "down", "careless"):
            self.bucket(name, s3={"endpoint": self.endpoints[name]})
        self.bucket("absent", s3={"bucket": self.absent}, storage={"management": "Observe"})
        self.pulling.enter_context(installed.cluster.misbehaving("unpullable", installed.namespace, "unpulled-"))
        self.bucket("unpulled")
        self.bucket("unplaced", api={"replicas": 1, "scheduling": {"nodeSelector": {self.label: "yes"}}})

    def end(self, named: str) -> None:
        """Each cause goes where it lies; only the wrong region lies in an UploadBucket. `named`: by its message."""
        installed = self.installed
        for name in ("secretless", "keyless", "rejected"):
            installed.secret(f"{name}-s3")
        installed.patch("uploadbucket/elsewhere", {"spec": {"storage": {"s3": {"region": named}}}})
        self.open.enter_context(installed.cluster.forward_in(self.down.port))
        self.careless.careless = False
        self._make_bucket()
        self.pulling.close()
        self._label("yes")

    def _make_bucket(self) -> None:
        client = self.installed.store.client()
        self.open.callback(client.close)
        client.create_bucket(Bucket=self.absent)

    def _label(self, value: str) -> None:
        plane = self.installed.cluster.control_plane
        plane.kubectl("label", "node", "node-1", f"{self.label}={value}")
        self.open.callback(plane.kubectl, "label", "node", "node-1", f"{self.label}-")


@pytest.fixture
def scene(installed: Installed) -> Iterator[Scene]:
    cluster, store = installed.cluster, installed.store
    with ExitStack() as stack:
        elsewhere = stack.enter_context(in_region(store, REGION))
        careless = stack.enter_context(CarelessStore(store))
        # It listens on this machine, but nothing leads there from the pods.
        down = stack.enter_context(running(store.endpoint))
        reached = {"elsewhere": elsewhere.port, "careless": careless.port}
        endpoints = {name: f"http://{stack.enter_context(cluster.forward_in(port))}" for name, port in reached.items()}
        endpoints["down"] = f"http://{OUTSIDE}:{down.port}"
        made = Scene(installed=installed, down=down, careless=careless, endpoints=endpoints, open=stack)
        stack.enter_context(made.pulling)
        yield made


def test_each_trouble_has_its_reason_heals_and_delays_nobody(scene: Scene) -> None:
    installed = scene.installed
    scene.begin()
    for name, trouble in TROUBLES.items():
        until(f"{name} says {trouble.reason}", partial(shows, installed, name, trouble), within=180)
    scene.bucket("healthy")
    installed.until("Ready", "True", name="healthy")
    for name, trouble in TROUBLES.items():
        assert shows(installed, name, trouble)
    generations = {name: generation(installed, name) for name in TROUBLES}

    [named] = re.findall(r"the bucket is in region ([a-z0-9-]+)", installed.condition("Ready", "elsewhere")["message"])
    scene.end(named)
    for name in TROUBLES:
        installed.until("Ready", "True", name=name)
        for kind in DETAILS:
            installed.until(kind, "True", name=name)
        for kind in ("Stalled", "Reconciling"):
            installed.until(kind, "False", name=name)
        assert list(installed.runs(name).values()) == [0], "healed without a restart"
    changed = {name for name in TROUBLES if generation(installed, name) != generations[name]}
    assert changed == {"elsewhere"}
    assert scene.careless.overlooked > 0


def shows(installed: Installed, name: str, trouble: Trouble) -> bool:
    """That the trouble is told in its condition, in `Ready`, as an Event, and as what it is waiting for."""
    found = installed.get("uploadbucket", name).get("status", {}).get("conditions", ())
    told = {each["type"]: (each["status"], each["reason"]) for each in found}
    assert told.get("Ready") == ("False", trouble.reason), (name, found, installed.logs(of(name), "api"))
    at, other = ("Stalled", "Reconciling") if trouble.stalled else ("Reconciling", "Stalled")
    assert told[at] == ("True", trouble.reason)
    assert told[other][0] == "False"
    assert trouble.detail is None or told[trouble.detail] == ("False", trouble.reason)
    message = next(each["message"] for each in found if each["type"] == "Ready")
    assert all(words in message for words in trouble.says), message
    events = installed.cluster.events(installed.namespace, trouble.reason)
    assert [each["type"] for each in events if each["involvedObject"]["name"] == name][:1] == ["Warning"]
    return True


def generation(installed: Installed, name: str) -> int:
    found: int = installed.get("deployment", f"{name}-putgate-api")["metadata"]["generation"]
    return found
