"""Whatever becomes of watch events, the cluster ends as it would without: and then nothing is written any more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
import yaml

from tests.operator.plane.operators import Home, OperatorProcess
from tests.operator.plane.test_objects import FULL
from tests.servers.kube.tampering import Odds, TamperingProxy
from tests.servers.kube.waiting import until

pytestmark = pytest.mark.slow

ROUNDS = 40
"""Changes, in the order of one seed."""

LOOKS = 4
"""Two at each UploadBucket."""

WISHES: tuple[dict[str, Any], ...] = (
    {},
    FULL,
    {"download": {"urlTTL": "1m"}},
    {"api": {"replicas": 3}},
    {"access": FULL["access"]},
)

EDITS: dict[str, dict[str, Any]] = {
    "service/{}-putgate-api": {"spec": {"ports": [{"name": "http", "port": 81, "targetPort": "http"}]}},
    "deployment/{}-putgate-api": {"spec": {"replicas": 5}},
    "configmap/{}-putgate-rules": {"data": {"rules.yaml": "{}"}},
    "networkpolicy/{}-putgate-api": {"spec": {"egress": [{}]}},
    "poddisruptionbudget/{}-putgate-api": {"spec": {"maxUnavailable": 2}},
}

RULES = ("configmap", "media-putgate-rules")

NAMES = ("media", "other")
"""The first lives on, so that all that it has can be compared; the second is deleted and made anew."""


@contextmanager
def tampered(home: Home, odds: Odds, seed: int, *options: str) -> Iterator[tuple[OperatorProcess, TamperingProxy]]:
    with TamperingProxy(home.plane.url, home.plane.ca_file, odds, seed) as proxy:
        path = home.folder / "tampered.kubeconfig"
        document = yaml.safe_load(home.kubeconfig.read_text())
        document["clusters"][0]["cluster"] = {"server": proxy.url}
        path.touch(0o600)
        path.write_text(yaml.safe_dump(document))
        process = OperatorProcess(home, path, *options, everywhere=False)
        home.processes.append(process)
        yield process.start(), proxy


def disturb(home: Home, random: Random) -> None:
    """One change by somebody."""
    name = random.choice(NAMES)
    target = random.choice(list(EDITS))
    match random.choices(["wish", "edit", "delete", "again"], [4, 3, 3, 2])[0]:
        case "wish":
            home.bucket(name, **random.choice(WISHES))
        case "edit":
            patch = yaml.safe_dump(EDITS[target])
            # It may be gone just now.
            home.kubectl("patch", target.format(name), "--type=merge", "-p", patch, check=False)
        case "delete":
            home.kubectl("delete", target.format(name), "--ignore-not-found", "--wait=false")
        case "again":
            home.kubectl("delete", "uploadbucket", NAMES[1], "--timeout=60s")
            home.bucket(NAMES[1], **random.choice(WISHES))


def of_the_first(home: Home) -> dict[str, Any]:
    return {key: each for key, each in home.children().items() if f"/{NAMES[0]}-" in key}


def until_same(home: Home, wanted: dict[str, Any]) -> None:
    """The first one's children; settings of other templates may stay for as long as a ReplicaSet names them."""

    def same() -> bool:
        found = {key: each for key, each in of_the_first(home).items() if key in wanted or "-settings-" not in key}
        assert found == wanted
        return True

    until("the children are as wanted", same, within=120)


def disturb_and_set_right(home: Home, seed: int) -> None:
    random = Random(seed)
    for _ in range(ROUNDS):
        disturb(home, random)
    for name in NAMES:
        home.bucket(name)
    for name in NAMES:
        home.until_ready(name)


def as_without_tampering(home: Home) -> dict[str, Any]:
    """What both look like, and the children of the first."""
    plain = home.operator()
    for name in NAMES:
        home.bucket(name)
        home.until_ready(name)
    assert plain.stop() == 0
    return of_the_first(home)


def check_quiet(home: Home, operator: OperatorProcess, proxy: TamperingProxy) -> None:
    """When nothing is late any more nothing is written, whatever old news come again; and an operator that has seen
    nothing of all this agrees.
    """
    until("nothing is late", lambda: proxy.late == 0)
    home.looked(operator, LOOKS)
    mark, before = home.plane.mark(), home.children()
    home.looked(operator, LOOKS)
    assert home.writes(mark) == []
    proxy.repeat_the_past()
    home.looked(operator, LOOKS)
    assert home.writes(mark) == []
    assert operator.stop() == 0
    again = home.operator("--resync-seconds=1")
    home.looked(again, LOOKS)
    assert home.writes(mark) == []
    assert home.children() == before


@pytest.mark.parametrize("seed", [1, 2])
def test_dropped_doubled_and_delayed_events_end_in_the_same_state(home: Home, seed: int) -> None:
    wanted = as_without_tampering(home)
    odds = Odds(drop=0.25, double=0.15, delay=0.3, cut=0.02, forget=0.5)
    with tampered(home, odds, seed, "--resync-seconds=4") as (operator, proxy):
        until("it leads", lambda: operator.metric("putgate_operator_leading") == 1)
        disturb_and_set_right(home, seed)
        until_same(home, wanted)
        check_quiet(home, operator, proxy)
        assert proxy.done.keys() >= {"drop", "double", "delay", "cut", "repeated"}


def test_streams_that_are_cut_lose_nothing(home: Home) -> None:
    wanted = as_without_tampering(home)
    with tampered(home, Odds(double=0.2, cut=0.15), 3) as (operator, proxy):
        until("it leads", lambda: operator.metric("putgate_operator_leading") == 1)
        # Its resync is 10 min: all that follows it learns by its watches.
        disturb_and_set_right(home, 3)
        until_same(home, wanted)
        assert proxy.done.keys() >= {"double", "cut"}


def test_a_stream_that_ends_in_an_error_is_taken_up_again(home: Home) -> None:
    with tampered(home, Odds(), 4) as (_, proxy):
        home.bucket(access=FULL["access"])
        home.until_ready()
        proxy.break_a_watch()
        until("it has been told", lambda: proxy.done["InternalError"])
        home.bucket()
        # Its resync is 10 min: only a watch, or that it begins again, can tell it.
        until("the rules are taken away", lambda: "team" not in home.get(*RULES)["data"]["rules.yaml"], within=120)
        home.until_ready()
