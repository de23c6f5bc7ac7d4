"""What the chart lets an operator do, given to an account of a test, and what the account has made of it.

A test's operator that may do everything would hide what the chart forgets, and a verb that nobody needs would stay for
good.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.operator.chart.rendering import granted, rendered
from tests.servers.kube.control_plane import ControlPlane
from tests.servers.kube.waiting import until

LEASE = "putgate-operator"
"""What a test's replicas share, though each has an account, and with it a release, of its own."""

KINDS = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


class Right(NamedTuple):
    """`resource`: with its subresource, as in a Role's rules."""

    group: str
    resource: str
    verb: str


class StrictControlPlane(ControlPlane):
    """As some clusters are, OpenShift's among them: whoever makes an object that holds its owner's deletion up needs
    the right to `finalizers` of the owner. It also knows when it was starting.
    """

    def __init__(self, programs: dict[str, Path], folder: Path) -> None:
        super().__init__(programs, folder)
        self._starts: list[tuple[datetime, datetime]] = []

    def start_api_server(self) -> None:
        began = datetime.now(UTC)
        super().start_api_server()
        self._starts.append((began, datetime.now(UTC)))

    def was_starting(self, at: datetime) -> bool:
        """Before an API server is ready it does not know all roles, and refuses what they grant."""
        return any(began <= at <= ready for began, ready in self._starts)

    def _api_server_command(self, etcd_port: int) -> list[str]:
        plugin = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement"
        return [*super()._api_server_command(etcd_port), plugin]


def objects(namespace: str, account: str, *, everywhere: bool) -> list[dict[str, Any]]:
    """The chart's own, of a release in `namespace`; `everywhere`: for an operator of the whole cluster."""
    values = {
        "fullnameOverride": account,
        "rbac": {"namespaced": not everywhere, "aggregate": False},
        "crds": {"enabled": False},
    }
    made = [each for (kind, _, _), each in rendered(values, namespace=namespace).items() if kind in KINDS]
    return [_of_shared_lease(each) for each in made]


def _of_shared_lease(made: dict[str, Any]) -> dict[str, Any]:
    if "rules" not in made:
        return made
    named = [rule | {"resourceNames": [LEASE]} if "resourceNames" in rule else rule for rule in made["rules"]]
    return made | {"rules": named}


def rights(made: Collection[dict[str, Any]]) -> set[Right]:
    """Of all roles among some objects."""
    return {Right(*each) for role in made for each in granted(role.get("rules", []))}


def enforced(plane: ControlPlane, namespace: str, account: str) -> set[Right]:
    """What the API server lets an account do, by its own word; what everybody may is among it."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    user = f"--as=system:serviceaccount:{namespace}:{account}"
    answer = json.loads(
        plane.kubectl("create", user, "--validate=false", "-f", "-", "-ojson", input=json.dumps(review))
    )
    return {Right(*each) for each in granted(answer["status"]["resourceRules"])}


def grant(plane: ControlPlane, namespace: str, account: str, *, everywhere: bool) -> None:
    """Make the account with exactly the chart's rights. They are in force when this returns."""
    made = objects(namespace, account, everywhere=everywhere)
    plane.apply(*made)
    until("the roles are in force", lambda: rights(made) <= enforced(plane, namespace, account))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One that is over. `began`: when it came. `said`: the API server's words, where it refused."""

    user: str
    began: datetime
    right: Right
    name: str
    status: int
    decision: str
    said: str

    @classmethod
    def parse(cls, event: dict[str, Any]) -> Self:
        target, status = event.get("objectRef", {}), event.get("responseStatus", {})
        resource = "/".join(filter(None, (target.get("resource", event["requestURI"]), target.get("subresource"))))
        return cls(
            user=event["user"]["username"],
            began=datetime.fromisoformat(event["requestReceivedTimestamp"]),
            right=Right(target.get("apiGroup", ""), resource, event["verb"]),
            name=target.get("name", ""),
            status=status.get("code", 0),
            decision=event.get("annotations", {}).get("authorization.k8s.io/decision", ""),
            said=status.get("message", ""),
        )

    @property
    def forbidden(self) -> bool:
        """By missing rights. What a quota or an admission policy refuses is 403 too; and that somebody cannot create
        what a patch would make, or cannot name an owner, comes after the request itself was authorized.
        """
        return self.status == 403 and (self.decision == "forbid" or " cannot " in self.said)

    @property
    def used(self) -> set[Right]:
        """A patch that makes an object needs both rights."""
        made = self.right.verb == "patch" and self.status == 201
        return {self.right, self.right._replace(verb="create")} if made else {self.right}


def requests(plane: ControlPlane, users: Collection[str], since: int) -> Iterator[Request]:
    """Of these users after a mark; of a watch when it has ended."""
    with plane.log.path.open("rb") as file:
        file.seek(since)
        for line in file:
            # The last line may be half written; others' requests are most of them.
            if line.endswith(b"\n") and any(user.encode() in line for user in users):
                request = Request.parse(json.loads(line))
                if request.user in users:
                    yield request


def used(plane: ControlPlane, users: Collection[str], since: int) -> set[Right]:
    """Without what is no resource: discovery, which everybody may."""
    found = [each for each in requests(plane, users, since) if not each.right.resource.startswith("/")]
    return {right for each in found for right in each.used if not each.forbidden}
