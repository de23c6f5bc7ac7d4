"""An upgrade of the operator rolls a few Deployments at a time, and what is stuck holds its slot and nobody else."""

from __future__ import annotations

import pytest

from tests.operator.plane.operators import Home
from tests.servers.kube.light_nodes import LightNodes
from tests.servers.kube.waiting import until

BUCKETS = 12
SLOTS = 3
NEW = "putgate:new"


def rolling(home: Home) -> tuple[set[str], set[str]]:
    """UploadBuckets with the new image: those that still roll, and those that are done."""
    begun, done = set(), set()
    for deployment in home.plane.items("-n", home.namespace, "deployment"):
        if deployment["spec"]["template"]["spec"]["containers"][0]["image"] != NEW:
            continue
        name, status = deployment["metadata"]["labels"]["putgate.io/uploadbucket"], deployment["status"]
        counts = {status.get(field, 0) for field in ("replicas", "updatedReplicas", "availableReplicas")}
        seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
        (done if seen and counts == {1} else begun).add(name)
    return begun, done


@pytest.mark.slow
def test_never_more_than_the_slots_though_two_are_stuck(home: Home, nodes: LightNodes) -> None:
    names = [f"b{number}" for number in range(BUCKETS)]
    operator = home.operator()
    for name in names:
        home.bucket(name, api={"replicas": 1})
    for name in names:
        home.until_ready(name)
    assert operator.stop() == 0
    stuck = {(home.namespace, name, NEW) for name in ("b0", "b7")}
    nodes.stuck |= stuck
    home.operator(f"--image={NEW}", f"--max-concurrent-rollouts={SLOTS}")
    most = 0

    def all_but_the_stuck() -> bool:
        nonlocal most
        begun, done = rolling(home)
        most = max(most, len(begun))
        return len(done) == BUCKETS - 2

    until("all others are rolled", all_but_the_stuck, within=300)
    assert most <= SLOTS
    # A stuck one may be the last that gets a slot.
    until("both stuck ones hold a slot", lambda: rolling(home)[0] == {"b0", "b7"}, within=60)
    # What an owner changes needs no slot.
    home.bucket("b3", api={"replicas": 1}, download={"urlTTL": "1m"})
    home.until_ready("b3")
    nodes.stuck -= stuck
    home.kubectl("delete", "pods", "-l", "putgate.io/uploadbucket in (b0,b7)")
    until("the last two are rolled", lambda: len(rolling(home)[1]) == BUCKETS, within=120)
