"""A leader that is cut off from the API server: another leads soon, and what the first still sends changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.operator.plane.operators import Home, OperatorProcess
from tests.operator.plane.terms import BLOCKED, Loss, intrusions, requests, terms
from tests.servers.kube.relay import Relay
from tests.servers.kube.waiting import until

pytestmark = pytest.mark.slow

LARGE = 6000
"""Bytes: more than the requests have by which a leader stays one, and less than a write of such rules."""


@pytest.fixture
def relay(home: Home) -> Iterator[Relay]:
    with Relay(home.plane.port) as relay:
        yield relay


def beyond(home: Home, relay: Relay) -> OperatorProcess:
    """A started operator of the account `cut`, which has no other way to the API server than the relay."""
    path = home.folder / "cut.kubeconfig"
    document = yaml.safe_load(home.account("cut").read_text())
    document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{relay.port}"
    path.touch(0o600)
    path.write_text(yaml.safe_dump(document))
    process = OperatorProcess(home, path, everywhere=False)
    home.processes.append(process)
    return process.start()


def access(prefix: str) -> list[dict[str, Any]]:
    """Rules that differ by a prefix: one large write to one object puts them in force."""
    subject = {"kind": "ServiceAccount", "name": "uploader", "namespace": "apps"}
    rule = {"subjects": [subject], "verbs": ["upload"]}
    many = [f"{number}/{'x' * 240}/" for number in range(16)]
    return [
        {"name": "team", **rule, "prefixes": [f"{prefix}/"]},
        *({"name": f"many-{number}", **rule, "prefixes": many} for number in range(LARGE // 4000 + 1)),
    ]


def until_ruled(home: Home, prefix: str) -> None:
    def ruled() -> bool:
        found = home.get("configmap", "media-putgate-rules")
        assert found is not None
        return f"{prefix}/" in found["data"]["rules.yaml"]

    until(f"the rules say {prefix}/", ruled, within=120)


def rules_version(home: Home) -> str:
    found = home.get("configmap", "media-putgate-rules")
    assert found is not None
    version: str = found["metadata"]["resourceVersion"]
    return version


def leads(operator: OperatorProcess) -> Callable[[], bool]:
    return lambda: operator.metric("putgate_operator_leading") == 1


def goes_on(operator: OperatorProcess) -> None:
    """By itself, or restarted as a Deployment would."""
    assert operator.process is not None
    code = operator.process.poll()
    assert code in (None, BLOCKED)
    if code is not None:
        operator.start()


@pytest.mark.parametrize("how", ["black hole", "refused"])
def test_another_does_the_work_and_the_first_goes_on_later(home: Home, relay: Relay, how: str) -> None:
    mark = home.plane.mark()
    first = beyond(home, relay)
    until("the first leads", leads(first))
    second = home.operator()
    home.bucket(access=access("a"))
    home.until_ready()
    before = home.children()
    loss = Loss(home=home)
    relay.swallow() if how == "black hole" else relay.refuse()
    home.bucket(access=access("b"), api={"replicas": 3})
    loss.busy_until("the second leads", leads(second))
    until_ruled(home, "b")
    assert home.until_ready()["status"]["api"]["readyReplicas"] == 3
    loss.check(requests(home, mark))

    relay.heal()
    until("nothing is on its way", lambda: relay.on_the_way() == 0)
    goes_on(first)
    home.bucket(access=access("c"))
    until_ruled(home, "c")
    home.until_ready()
    assert second.stop() == 0
    until("the first leads again", leads(first))
    # Its resync is 10 min: it hears of this by watches that have outlived the cut, or are new.
    home.bucket(access=access("a"))
    home.until_children(before, within=120)
    home.until_ready()
    asked = requests(home, mark)
    assert intrusions(asked) == []
    assert [term.account for term in terms(asked)] == ["cut", "operator", "cut"]


def test_what_a_black_hole_kept_changes_nothing_later(home: Home, relay: Relay) -> None:
    mark = home.plane.mark()
    first = beyond(home, relay)
    until("the first leads", leads(first))
    second = home.operator("--resync-seconds=1")
    home.bucket(access=access("a"))
    home.until_ready()
    # It goes on leading until it is cut off with a write under way.
    relay.swallow_large(LARGE)
    home.bucket(access=access("b"))
    until("a write is on its way", lambda: relay.on_the_way() > LARGE)
    relay.swallow()
    until("the second leads", leads(second), within=120)
    until_ruled(home, "b")
    home.bucket(access=access("c"))
    until_ruled(home, "c")
    home.until_ready()
    home.looked(second, 3)
    before, version, quiet = home.children(), rules_version(home), home.plane.mark()
    relay.heal()
    # A kernel sends again what was not acknowledged, the later the longer it has tried in vain.
    until("nothing is on its way", lambda: relay.on_the_way() == 0, within=120)
    goes_on(first)
    home.looked(second, 3)
    # The client has given up: where its connection ends while the write is looked at, the answer is 504 and tells
    # nothing. The object does, whose version every write that takes effect changes.
    unsure = ("patch configmaps media-putgate-rules", 504)
    assert [each for each in intrusions(requests(home, mark)) if (each.what, each.status) != unsure] == []
    assert rules_version(home) == version
    # Any other write that came through would have been undone by now: nobody had to.
    assert [event for event in home.writes_of_all(quiet) if event.status < 300] == []
    assert home.children() == before
